"""The polling loop's pace, and the account that is kept of every source."""

import asyncio
import logging
import math
import threading

import pytest
from inferometer.model import GpuReading, Page
from inferometer.sources import SourceStats, boottime, poll, public_url
from inferometer.sources.alarms import Alarms
from inferometer.sources.detached import Aside, detached


def test_the_clock_is_steady():
    first = boottime()
    assert 0 < first <= boottime()


def run_poll(durations, every=10.0):
    """Times at which readings began, for readings that take ``durations``, on a clock that only sleeping moves."""
    now, began, emitted, left = [100.0], [], [], list(durations)

    async def read():
        began.append(round(now[0], 6))
        if not left:
            raise asyncio.CancelledError
        now[0] += left.pop(0)
        return Page("t", now[0])

    async def sleep(seconds):
        now[0] += seconds

    async def run():
        with pytest.raises(asyncio.CancelledError):
            await poll(read, every, emitted.append, lambda: now[0], sleep)

    asyncio.run(run())
    assert len(emitted) == len(durations)
    return began


@pytest.mark.parametrize(
    ("durations", "began"),
    [
        ([0, 0, 0], [100, 110, 120, 130]),
        ([3, 9.5, 1], [100, 110, 120, 130]),
        ([25, 0], [100, 130, 140]),
        ([10, 0], [100, 120, 130]),
        ([0.1] * 50, [100 + 10 * k for k in range(51)]),
    ],
)
def test_readings_keep_to_the_grid(durations, began):
    """However long readings take they begin at start + k · every; a slow one skips ticks and makes up for none."""
    assert run_poll(durations) == began


def test_a_tick_is_never_read_twice():
    """A sleep that ends a hair early does not make the same tick come again."""
    now = [0.0]
    ticks = []

    async def read():
        ticks.append(now[0])
        if len(ticks) == 4:
            raise asyncio.CancelledError
        return Page("t", now[0])

    async def sleep(seconds):
        now[0] += max(0.0, seconds - 1e-4)

    async def run():
        with pytest.raises(asyncio.CancelledError):
            await poll(read, 1.0, lambda _: None, lambda: now[0], sleep)

    asyncio.run(run())
    assert ticks == pytest.approx([0, 1, 2, 3], abs=1e-3)


def test_polling_stops_when_cancelled():
    async def run():
        async def read():
            return Page("t", 0.0)

        task = asyncio.create_task(poll(read, 0.01, lambda _: None, boottime, asyncio.sleep))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(run())


class CountedTimers(asyncio.SelectorEventLoop):
    """Counts the timers that are made."""

    made = 0

    def call_at(self, *args, **kwargs):
        self.made += 1
        return super().call_at(*args, **kwargs)


def counted(main):
    """What a coroutine returns, and how many timers it took."""
    with asyncio.Runner(loop_factory=CountedTimers) as runner:
        return runner.run(main), runner.get_loop().made


def test_who_sleeps_until_about_one_moment_shares_a_timer():
    """Each wakes up in time, none too soon, whoever of them is cancelled."""

    async def run():
        loop, alarms, woke = asyncio.get_running_loop(), Alarms(1.0), []

        async def sleeper(seconds):
            due = loop.time() + seconds
            await alarms.sleep(seconds)
            woke.append(loop.time() - due)

        grid = math.ceil(loop.time()) - loop.time()
        sleepers = [asyncio.create_task(sleeper(grid + 0.11 + 0.001 * k)) for k in range(50)]
        await asyncio.sleep(0)
        for task in sleepers[::2]:
            task.cancel()
        await asyncio.gather(*sleepers, return_exceptions=True)
        return woke, alarms._due

    (woke, left), timers = counted(run())
    assert (len(woke), timers, left) == (25, 1, {})
    assert 0 <= min(woke) <= max(woke) < 2


def test_an_alarm_that_nobody_waits_for_is_taken_back():
    """The last one who goes takes the timer along, and what rang already can be dropped still."""

    async def run():
        alarms, rang = Alarms(0.01), []
        moments = [alarms.set(math.inf, ring) for ring in (rang.clear, rang.reverse)]
        for moment, ring in zip(moments, (rang.clear, rang.reverse), strict=True):
            alarms.drop(moment, ring)
        pending = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
        moment = alarms.set(0.0, lambda: rang.append("now"))
        await asyncio.sleep(0.1)
        alarms.drop(moment, rang.clear)
        return pending, rang, alarms._due

    assert asyncio.run(run()) == ([], ["now"], {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8000/metrics", "http://h:8000/metrics"),
        ("https://user:pa@ss@h/metrics?token=x#y", "https://h/metrics"),
        ("http://[::1]:8000/m", "http://[::1]:8000/m"),
        ("http://u:p@[::1/m", "http://(invalid)"),
        ("nvml", "nvml"),
        ("recording:vllm-a", "recording:vllm-a"),
    ],
)
def test_public_url_shows_no_secret(url, shown):
    assert public_url(url) == shown


def test_stats_follow_a_source_and_log_its_changes(caplog):
    """Up, down, down for another reason and up again: four lines for seven readings, and every error counted."""
    caplog.set_level(logging.INFO)
    stats = SourceStats({"a": "http://u:p@a:1/metrics?x"})
    errors = ["", "", "timeout", "timeout", "refused", "refused", ""]
    for wall, error in enumerate(errors, 1000):
        stats.seen(Page("a", 5.0, error=error, seconds=0.25, detail=error and f"{error}!"), float(wall))
    (view,) = stats.views()
    assert (view.source, view.up, view.read_seconds, view.last_success) == ("http://a:1/metrics", True, 0.25, 1006.0)
    assert view.errors == {"timeout": 2, "refused": 2}
    lines = [(r.levelname, r.getMessage(), r.source, getattr(r, "reason", "")) for r in caplog.records]
    assert lines == [
        ("INFO", "source up", "http://a:1/metrics", ""),
        ("WARNING", "source down", "http://a:1/metrics", "timeout"),
        ("WARNING", "source down", "http://a:1/metrics", "refused"),
        ("INFO", "source up", "http://a:1/metrics", ""),
    ]
    assert caplog.records[1].detail == "timeout!"


def test_stats_of_a_source_that_never_answered_and_of_one_without_a_gpu(caplog):
    """Down from the start is said once; a machine without a GPU is no warning; what is forgotten is gone."""
    caplog.set_level(logging.INFO)
    stats = SourceStats()
    for _ in range(3):
        stats.seen(Page("http://b:1/m", 5.0, error="dns", detail="d"), 1.0)
        stats.seen(GpuReading("nvml", 5.0, error="no_library", detail="d"), 1.0)
    assert [(v.source, v.up, v.last_success, v.detail) for v in stats.views()] == [
        ("http://b:1/m", False, 0.0, "d"),
        ("nvml", False, 0.0, "d"),
    ]
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    stats.forget(["http://b:1/m", "unknown"])
    assert [v.source for v in stats.views()] == ["nvml"]


def test_calls_aside_share_a_thread_that_goes_when_there_are_none():
    """One thread for all of them, whatever they raise; after a rest none, and then another."""

    async def calls():
        aside = Aside("t", rest_seconds=0.05)
        first, second = await aside.run(threading.get_ident), await aside.run(threading.get_ident)
        with pytest.raises(ZeroDivisionError):
            await aside.run(lambda: 1 // 0)
        assert await aside.run(threading.get_ident) == first == second
        for _ in range(5):
            for thread in threading.enumerate():
                if thread.name == "t":
                    await asyncio.to_thread(thread.join, 10)
            assert await aside.run(lambda: 5) == 5
        lost = aside.run(lambda: 1 // 0)  # nobody asks what became of it
        del lost

    asyncio.run(calls())


def test_a_detached_call_brings_its_result_or_its_exception():
    """And when nobody asks for the exception, nobody complains."""

    async def run():
        assert await detached(lambda: 5, "t") == 5
        with pytest.raises(ZeroDivisionError):
            await detached(lambda: 1 // 0, "t")
        lost = detached(lambda: 1 // 0, "t")
        await asyncio.wait([lost])

    asyncio.run(run())
