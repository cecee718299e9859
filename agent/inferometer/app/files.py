"""How many files the agent may have open: as many as it is allowed, since each engine and each client takes one."""

from __future__ import annotations

import contextlib
import resource

_ENOUGH = 65_536


def raise_open_files() -> int:
    """Raise the soft limit as far as the hard one allows; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
