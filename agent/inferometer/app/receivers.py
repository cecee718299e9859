"""The OTLP receivers of a running agent, on the addresses that the configuration gives them."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from inferometer.app.clock import Clock
from inferometer.app.readers import Readers
from inferometer.app.spans import Spans
from inferometer.config import Config
from inferometer.config.schema import Caps
from inferometer.errors import InferometerError
from inferometer.exposition.connections import Connections
from inferometer.exposition.listen import bind, listen
from inferometer.model import Account, Export

if TYPE_CHECKING:
    from inferometer.sources.otlp.intake import Intake

_SOURCE = "otlp"
_log = logging.getLogger(__name__)


class Receivers:
    """Pass what exporters send to ``readers``; without the key ``otlp`` nothing is received."""

    def __init__(self, settings: Config, spans: Spans, readers: Readers, clock: Clock) -> None:
        self._settings, self._spans = settings.otlp, spans
        self._spans_per_second = settings.limits.spans_per_second
        self._readers, self._clock = readers, clock
        self._intake: Intake | None = None
        self._connections = Connections()

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Listen until the end of ``stack``.

        InferometerError where an address cannot be had or the extra for gRPC is not installed.
        """
        settings = self._settings
        if settings is None:
            return
        from inferometer.sources.otlp.intake import Clocks, Intake, Limits  # noqa: PLC0415  costs memory: only where it is on

        at, ahead = self._clock.at, self._clock.ahead
        clocks, refused = Clocks(at, lambda: at() + ahead()), partial(self._readers.stats.refused, _SOURCE)
        limits = Limits(spans_per_second=self._spans_per_second)
        self._intake = intake = Intake(self._spans.reader_for, self._readers.emit, refused, clocks, limits)
        try:
            await _http(settings.http, intake, stack, self._connections)
            if settings.grpc is not None:
                await _grpc(settings.grpc, intake, stack)
        except OSError as error:
            raise InferometerError(error.strerror or str(error)) from error
        self._readers.emit(Export(_SOURCE, at()))  # it is up, whether or not anybody sends

    def follow(self, limits: Caps) -> None:
        """Take as much as these limits allow from now on."""
        self._spans_per_second = limits.spans_per_second
        if self._intake is not None:
            self._intake.rate.per_second = limits.spans_per_second

    def values(self) -> dict[Account, float]:
        """The connections of exporters."""
        return self._connections.values("otlp")

    def close(self) -> None:
        """Take no more; exports that wait are answered still."""
        if self._intake is not None:
            self._intake.close()


async def _http(address: str, intake: Intake, stack: contextlib.AsyncExitStack, connections: Connections) -> None:
    from inferometer.sources.otlp.http import PATH, make_app  # noqa: PLC0415  likewise

    listener = await listen(make_app(intake), address, "otlp.http", auto_decompress=False, connections=connections)
    stack.push_async_callback(listener.close)
    _log.info("OTLP over HTTP is received", extra={"otlp": f"http://{_host(listener.host)}:{listener.port}{PATH}"})


async def _grpc(address: str, intake: Intake, stack: contextlib.AsyncExitStack) -> None:
    try:
        from inferometer.sources.otlp import grpc  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise InferometerError(
            "otlp.grpc needs the extra grpc: pip install 'inferometer[grpc]', or leave the key out"
        ) from error
    with bind(address, "otlp.grpc") as free:  # says what is wrong with an address, which gRPC does not
        host, port = free.getsockname()[:2]
    where = f"{_host(host)}:{port}"
    stack.push_async_callback(await grpc.serve(intake, where))
    _log.info("OTLP over gRPC is received", extra={"otlp_grpc": where})


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
