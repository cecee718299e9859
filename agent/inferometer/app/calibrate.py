"""``inferometer calibrate``: how fast a server computes prompts and generates output, counted by its own page."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from msgspec import Struct

from inferometer import adapters
from inferometer.app.calibration import Calibration, Phase, Trial
from inferometer.app.completions import Completions, RefusedError, addresses
from inferometer.errors import InferometerError, SourceError
from inferometer.model import EngineSignal
from inferometer.sources import boottime, public_url
from inferometer.sources.scrape import Scraper, Target, open_session

Progress = Callable[[str, str], None]
"""Called with the name of the phase and how far it is."""

_PREFILL_SHARE, _DECODE_SHARE = 0.3, 0.5  # of the time; the rest is for warming up
_PREFILL_WORKERS = 8  # so that the engine never waits for the next prompt
_PROMPTS = 64  # at least so many in the prefill phase: the last ones must not outlast it by much
_PROMPT_TOKENS = (64, 2048)
_WAVES = 3
_OUTPUT_TOKENS = (16, 256)
_SHORT_WORDS, _FIRST_WORDS, _FEWEST_WORDS = 64, 256, 32
_MOST_REQUESTS = 4000
_POLL_SECONDS, _POLLS = 0.25, 12
_TOO_LONG = frozenset({400, 413, 422})
_FINISHED = ("finished_ok", "finished_error", "finished_aborted")


async def calibrate(trial: Trial, progress: Progress) -> Calibration:
    """Put load on the server and measure. Raises InferometerError with what is in the way; leaves nothing running."""
    limit = trial.seconds + 20.0
    try:
        async with asyncio.timeout(limit), _bench(trial, progress) as bench:
            return await bench.run()
    except TimeoutError:
        text = f"not done within {limit:.0f} s: the server is slow for this; give more time (--for 3m) or less"
        raise InferometerError(f"{text} --concurrency") from None


@asynccontextmanager
async def _bench(trial: Trial, progress: Progress) -> AsyncIterator[_Bench]:
    page, base = addresses(trial.url, trial.api)
    patience = max(10.0, trial.seconds / 2)
    target = Target(public_url(page), page, bearer_token_file=trial.bearer_token_file)
    api = Target(public_url(base), base, bearer_token_file=trial.bearer_token_file)
    connector = aiohttp.TCPConnector(limit=0)  # as many calls at a time as were asked for
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False) as calls,
        open_session() as pages,
    ):
        server = _Server(target, Scraper(target, None, pages, boottime), 1 if trial.force else _POLLS)
        yield _Bench(trial, server, Completions(api, calls, trial.model, patience), progress)


class _Totals(Struct, frozen=True):
    """A page in a few numbers; ``requests`` is None where it does not count them, ``busy`` what is in flight."""

    prompt_tokens: float
    output_tokens: float
    requests: float | None
    busy: float
    started: float | None


class _Server:
    """The server's page."""

    def __init__(self, target: Target, scraper: Scraper, polls: int) -> None:
        self.name = target.name
        self._polls = polls
        self._scraper = scraper
        self._translator = adapters.Translator(target.name, tuple(adapters.builtin().values()))

    async def signal(self) -> EngineSignal:
        """One reading; SourceError where there is none."""
        signal = self._translator(await self._scraper.read())
        if signal.error:
            raise SourceError(signal.error, f"{self.name}: {signal.error}: {signal.detail}")
        return signal

    async def totals(self) -> _Totals:
        """The same in numbers."""
        signal = await self.signal()
        sums: dict[str, float] = {}
        for key, value in signal.counters.items():
            sums[key.signal] = sums.get(key.signal, 0.0) + value
        counted = [sums[name] for name in (("finished",) if "finished" in sums else _FINISHED) if name in sums]
        cached = sums.get("cached_tokens", 0.0) if signal.traits.cached_in_prompt else 0.0
        return _Totals(
            prompt_tokens=sums.get("prompt_tokens", 0.0) - cached,
            output_tokens=sums.get("output_tokens", 0.0),
            requests=sum(counted) if counted else None,
            busy=sum(value for (name, _), value in signal.gauges.items() if name in {"running", "waiting"}),
            started=signal.process_start,
        )

    async def settled(self) -> _Totals:
        """The totals once they stand still and nothing is in flight, or after ``polls`` readings anyway."""
        before = await self.totals()
        for _ in range(self._polls):
            await asyncio.sleep(_POLL_SECONDS)
            now = await self.totals()
            if now == before and not now.busy:
                break
            before = now
        return before


class _Bench:
    """One calibration."""

    def __init__(self, trial: Trial, server: _Server, api: Completions, progress: Progress) -> None:
        self._trial, self._server, self._api, self._progress = trial, server, api, progress

    async def run(self) -> Calibration:
        """Warm up, prompts alone, then answers."""
        trial = self._trial
        self._progress("looking at the server", "")
        signal = await self._server.signal()
        if not trial.force:
            await self._refuse_traffic()
        await self._api.choose_model({key.model for key in signal.counters if key.model})
        words = await self._warm_up()
        seconds = _PREFILL_SHARE * trial.seconds
        _, prefill = await self._fitted("prefill", words, _PREFILL_WORKERS, seconds)
        short = min(words, _SHORT_WORDS)
        pilot = await self._drive("warm-up", (short, _OUTPUT_TOKENS[0]), trial.concurrency, 0.0)
        seconds = _DECODE_SHARE * trial.seconds
        output = _clamp(seconds / _WAVES * _OUTPUT_TOKENS[0] / pilot.held, _OUTPUT_TOKENS)
        decode = await self._drive("decode", (short, output), trial.concurrency, seconds)
        found = Calibration(trial, signal.kind, self._api.model, prefill, decode)
        if min(prefill.prompt_tokens, decode.output_tokens, decode.held - found.prompt_seconds) <= 0:
            raise InferometerError("the measured times make no sense together; give it more time with --for")
        return found

    async def _refuse_traffic(self) -> None:
        before = await self._server.totals()
        await asyncio.sleep(2 * _POLL_SECONDS)
        now = await self._server.totals()
        busy = max(before.busy, now.busy)
        if busy or (before.prompt_tokens, before.output_tokens) != (now.prompt_tokens, now.output_tokens):
            raise InferometerError(
                f"{self._server.name}: the server is at work for others ({busy:g} requests in flight); calibrate it "
                "when it is idle, or give --force and take the error into account"
            )

    async def _warm_up(self) -> int:
        """Compile, connect, and find the length in words of prompts that the server takes and that fit the time."""
        try:
            await self._api.ask(_SHORT_WORDS, _OUTPUT_TOKENS[0])
        except RefusedError as refusal:
            if refusal.status not in _TOO_LONG:
                raise
            self._api.ignores_eos = False  # no part of OpenAI's API; without it answers may end early
            await self._api.ask(_FEWEST_WORDS, _OUTPUT_TOKENS[0])
        await self._server.settled()
        words, most = _FIRST_WORDS, math.inf
        for workers in (1, _PREFILL_WORKERS):
            fitting, pilot = await self._fitted("warm-up", words, workers, 0.0)
            most = fitting if fitting < words else most
            affordable = pilot.prompt_tokens / pilot.wall * _PREFILL_SHARE * self._trial.seconds / _PROMPTS
            tokens_per_word = pilot.prompt_tokens / pilot.requests / fitting
            words = int(min(most, _clamp(affordable, _PROMPT_TOKENS) / tokens_per_word))
        return max(words, _FEWEST_WORDS)

    async def _fitted(self, name: str, words: int, workers: int, seconds: float) -> tuple[int, Phase]:
        """Prompts alone, half as long until the server takes them; how many words that are."""
        while True:
            try:
                phase = await self._drive(name, (words, 1), workers, seconds)
            except RefusedError as refusal:
                if refusal.status not in _TOO_LONG or words // 2 < _FEWEST_WORDS:
                    raise
                words //= 2
            else:
                return words, phase

    async def _drive(self, name: str, shape: tuple[int, int], workers: int, seconds: float) -> Phase:
        """Keep ``workers`` calls of (words, output tokens) in flight for about ``seconds``, one each at the least."""
        before = await self._server.settled()
        taken: list[float] = []
        began = boottime()

        async def work() -> None:
            while True:
                taken.append(await self._api.ask(*shape))
                half = sum(taken) / len(taken) / 2
                if boottime() + half >= began + seconds or len(taken) + workers > _MOST_REQUESTS:
                    return

        tasks = {asyncio.create_task(work()) for _ in range(workers)}
        try:
            await self._watch(name, tasks, seconds)
            wall = boottime() - began
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        after = await self._server.settled()
        self._check(before, after, len(taken))
        prompt, output = after.prompt_tokens - before.prompt_tokens, after.output_tokens - before.output_tokens
        return Phase(workers, len(taken), prompt, output, wall, sum(taken) / workers)

    async def _watch(self, name: str, tasks: set[asyncio.Task[None]], seconds: float) -> None:
        """Until all are done; the first failure ends it."""
        began, waiting = boottime(), tasks
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            self._progress(name, f"{boottime() - began:.0f} of {seconds:.0f} s" if seconds else "")

    def _check(self, before: _Totals, after: _Totals, sent: int) -> None:
        """The page must have counted our requests, all of them and no others."""
        moved = (after.prompt_tokens - before.prompt_tokens, after.output_tokens - before.output_tokens)
        if after.started != before.started or min(moved) < 0:
            raise InferometerError("the server was restarted meanwhile; calibrate it again")
        if min(moved) == 0:
            raise InferometerError(
                f"{self._server.name}: the page does not count the tokens of our requests; is it the page of the "
                "server whose API this is? (--api URL)"
            )
        counted = None if after.requests is None else after.requests - (before.requests or 0.0)
        if counted is None or counted == sent or self._trial.force:
            return
        if counted > sent:
            raise InferometerError(
                f"others used the server meanwhile: {counted - sent:g} requests beside our {sent}; "
                "calibrate it when it is idle, or give --force"
            )
        raise InferometerError(
            f"{self._server.name}: the page counted {counted:g} of our {sent} requests; give the address of one "
            "server, not of what spreads requests over several"
        )


def _clamp(value: float, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return int(min(high, max(low, value)))
