"""The agent's pages on their address, behind whatever the web configuration file puts before them."""

from __future__ import annotations

import contextlib
import logging

from inferometer.config import Config
from inferometer.errors import InferometerError
from inferometer.exposition.connections import Connections
from inferometer.exposition.server import ServerState, listen, make_app
from inferometer.web.config import WebConfig
from inferometer.web.gate import Gate

_log = logging.getLogger(__name__)


def web_config(settings: Config) -> WebConfig | None:
    """The web configuration file, if one is named. Raises ConfigError with all that is wrong with it."""
    return WebConfig(settings.web.config_file) if settings.web.config_file is not None else None


async def serve(
    state: ServerState,
    address: str,
    config: WebConfig | None,
    connections: Connections,
    stack: contextlib.AsyncExitStack,
) -> str:
    """Listen until the end of ``stack``; the base URL. InferometerError where the address cannot be had."""
    app = make_app(state)
    if config is not None:
        Gate(config).install(app)
        if config.current().users and not config.speaks_tls:
            _log.warning("passwords are asked for without TLS: whoever sees the network reads them")
    tls = config.context() if config is not None else None
    try:
        listener = await listen(app, address, tls=tls, connections=connections)
    except OSError as error:
        raise InferometerError(error.strerror or str(error)) from error
    stack.push_async_callback(listener.close)
    host = listener.host
    everywhere = host in {"0.0.0.0", "::", ""}  # noqa: S104  a comparison
    shown = "localhost" if everywhere else f"[{host}]" if ":" in host else host
    return f"{'https' if tls is not None else 'http'}://{shown}:{listener.port}"
