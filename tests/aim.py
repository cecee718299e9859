"""Where a kill is aimed: what can be seen of an agent's life from outside, and a moment of chance after it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.0004


class Aim:
    """Kills agents at moments that are drawn by ``rng``; ``kills`` counts them by phase.

    ``asked`` and ``served`` say how many pages the engines were asked for and gave; ``exporter`` sends the spans;
    ``reload`` gives an agent another configuration; ``ledger`` is the agent's folder.
    """

    def __init__(self, rng, ledger, proxies, exporter, reload):
        self.kills = Counter()
        self._rng, self._ledger, self._proxies = rng, ledger, proxies
        self._exporter, self._reload = exporter, reload
        self.phases = {
            "start": self._start,
            "scrape": self._scrape,
            "settle": self._settle,
            "commit": self._commit,
            "publish": self._publish,
            "span sent": self._span_sent,
            "span acknowledged": self._span_acknowledged,
            "reload": self._reloaded,
            "shutdown": self._shutdown,
            "any": self._any,
        }

    def kill(self, phase, agent):
        """Let the agent live on until that phase and a little longer, then SIGKILL it."""
        reached = self.phases[phase](agent)
        alive = agent.process.poll() is None
        agent.kill()
        told = phase if reached else "any"
        self.kills[told if alive else "shutdown, too late"] += 1

    # -- moments

    def _start(self, _agent):
        if self._rng.random() < 0.5:
            time.sleep(self._rng.uniform(0.0, 0.9))
            return True
        return self._after(lambda: self._of_file("lock"), self._rng.uniform(0.0, 0.25))

    def _scrape(self, _agent):
        return self._after(lambda: sum(proxy.asked for proxy in self._proxies), self._moment())

    def _settle(self, _agent):
        return self._after(lambda: sum(len(proxy.served) for proxy in self._proxies), self._moment(0.04))

    def _commit(self, _agent):
        return self._after(lambda: self._of_file("ledger.db-wal"), self._moment(0.004))

    def _publish(self, _agent):
        return self._after(lambda: self._of_file("exposed"), self._moment(0.004))

    def _span_sent(self, _agent):
        return self._after(lambda: self._exporter.posts, self._moment(0.05))

    def _span_acknowledged(self, _agent):
        return self._after(lambda: self._exporter.acks, self._moment(0.004))

    def _reloaded(self, agent):
        self._any(agent)
        self._reload(agent)
        time.sleep(self._rng.choice((self._moment(), self._moment(0.1), self._rng.uniform(0.0, 0.5))))
        return True

    def _shutdown(self, agent):
        self._any(agent)
        agent.process.terminate()
        time.sleep(self._moment(0.08))
        return True

    def _any(self, agent):
        agent.waits_for("listen=")  # before, no signal but SIGKILL is to be handled
        time.sleep(self._rng.uniform(0.0, 0.6))
        return False

    # -- how a moment is met

    def _moment(self, longest=0.03):
        """None at all, a few microseconds, or up to so many seconds."""
        return self._rng.choice((0.0, self._rng.expovariate(5000), self._rng.uniform(0.0, longest)))

    def _after(self, what, seconds):
        """Sleep for ``seconds`` after what can be seen has changed, a few times over; False where it never does."""
        for _ in range(self._rng.randint(1, 4)):
            before, end = what(), time.monotonic() + _PATIENCE_SECONDS
            while what() == before:
                if time.monotonic() > end:
                    return False
                time.sleep(_PAUSE_SECONDS)
        time.sleep(seconds)
        return True

    def _of_file(self, name):
        with contextlib.suppress(OSError):
            found = (self._ledger / name).stat()
            return found.st_mtime_ns, found.st_size
        return None
