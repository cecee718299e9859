"""``inferometer replay``: a recording through the pipeline at its own timestamps, with a ledger in memory only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from inferometer import adapters, economics, pipeline
from inferometer.app.plan import Plan, plan
from inferometer.app.publisher import Publisher
from inferometer.config import Config
from inferometer.errors import ConfigError, RecordingError
from inferometer.interval import Meter
from inferometer.ledger import Ledger
from inferometer.model import Batch, Entry, Interval, Page, Signal, Snapshot
from inferometer.sources import recording
from inferometer.sources.page import PageParser


def sources(folder: Path) -> list[str]:
    """The names of the engines that a recording has pages of, in the order of their first row."""
    return list(dict.fromkeys(row.source for row in recording.read(folder) if row.kind == "metrics"))


async def replay(
    folder: Path, settings: Config, environ: Mapping[str, str], each: Callable[[Snapshot], None] = lambda _: None
) -> Snapshot:
    """Settle a recording through its last row and return the final snapshot; ``each`` sees every one.

    Raises ConfigError where the configuration names an engine that the recording does not have.
    """
    layout = plan(settings, (), environ)
    _check_engines(layout, folder)
    meter = Meter(layout.watches, settings.interval)
    ledger = Ledger(None, settings.currency, wall=lambda: rows.at)
    publisher = Publisher(meter, ledger)
    publisher.follow(layout)
    rows = _Rows(folder, layout)

    def publish(batch: Batch, entries: list[Entry]) -> None:
        publisher(batch, entries)
        if publisher.snapshot is not None:
            each(publisher.snapshot)

    def settle(interval: Interval) -> Entry:
        return economics.settle(interval, layout.policies[interval.workload])

    await pipeline.run(rows.batches(), rows.translate, meter, settle, ledger, publish)
    rest = [settle(interval) for interval in meter.finish(rows.at)]
    await ledger.post(rest, {})
    publish(Batch(rows.at, rows.at), rest)
    ledger.close()
    if publisher.snapshot is None:
        raise RecordingError(f"{folder}: the recording has no row")
    return publisher.snapshot


class _Rows:
    """The rows of a recording as batches; ``at`` is the time of the newest."""

    def __init__(self, folder: Path, layout: Plan) -> None:
        self.at = 0.0
        self._folder = folder
        self._parsers = {name: PageParser(adapters.wanted(known)) for name, known in layout.adapters.items()}
        self._translators = {
            name: adapters.Translator(name, known, layout.tenants.get(name)) for name, known in layout.adapters.items()
        }

    async def batches(self) -> AsyncIterator[Batch]:
        for row in recording.read(self._folder):
            self.at = max(self.at, row.at)
            pages = (self._page(row),) if row.kind == "metrics" and row.source in self._parsers else ()
            yield Batch(self.at, self.at, pages)

    def translate(self, batch: Batch) -> list[Signal]:
        return [self._translators[page.source](page) for page in batch.samples if isinstance(page, Page)]

    def _page(self, row: recording.Row) -> Page:
        if row.status != "200":
            return Page(row.source, self.at, error=row.status)
        parsed = self._parsers[row.source].parse(row.body)
        error = "" if parsed.complete else "truncated"
        return Page(row.source, self.at, error, parsed.series if not error else (), parsed.malformed)


def _check_engines(layout: Plan, folder: Path) -> None:
    there = sources(folder)
    missing = [name for name in layout.targets if name not in there]
    if missing:
        have = ", ".join(f"recording:{name}" for name in there) or "no pages at all"
        raise ConfigError([f"{folder}: the recording has no engine {name}; it has {have}" for name in missing])
