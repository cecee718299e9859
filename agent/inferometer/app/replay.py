"""``inferometer replay``: a recording through the pipeline at its own timestamps, with a ledger in memory only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from inferometer import adapters, economics, pipeline
from inferometer.app.feeds import read_once
from inferometer.app.inventory import Inventory
from inferometer.app.names import Names
from inferometer.app.plan import Plan, plan, room
from inferometer.app.publisher import Publisher
from inferometer.app.spans import Spans
from inferometer.config import Config
from inferometer.errors import ConfigError, RecordingError, SourceError
from inferometer.interval import Meter
from inferometer.ledger import Ledger
from inferometer.model import Batch, Entry, Export, GpuReading, Interval, Page, Sample, Signal, Snapshot
from inferometer.sources import recording
from inferometer.sources.page import PageParser
from inferometer.sources.scrape import Target


def sources(folder: Path) -> list[str]:
    """The names of the engines that a recording has pages of, in the order of their first row."""
    return list(dict.fromkeys(row.source for row in recording.read(folder) if row.kind == "metrics"))


async def replay(
    folder: Path, settings: Config, environ: Mapping[str, str], each: Callable[[Snapshot], None] = lambda _: None
) -> Snapshot:
    """Settle a recording through its last row and return the final snapshot; ``each`` sees every one.

    Raises ConfigError where the configuration names an engine that the recording does not have, or a price that
    cannot be read.
    """
    settings = await read_once(settings)
    layout = plan(settings, (), environ)
    _check_engines(layout, folder)
    meter = Meter((), settings.interval)
    ledger = Ledger(None, settings.currency, wall=lambda: rows.at)
    names = Names(())
    spans = Spans(ledger.spans.take, names.models)
    counted = spans.values if settings.otlp is not None else dict
    publisher = Publisher(meter, ledger, agent=counted, hints=spans.hints)
    policies = dict(layout.policies)

    def follow(new: Plan) -> None:
        policies.update(new.policies)
        meter.watch(new.watches, settings.interval, new.assumed, room(settings))
        names.follow(new)
        spans.follow(new)
        publisher.follow(new)

    follow(layout)
    inventory = Inventory(layout, environ, follow)
    rows = _Rows(folder, layout, spans, names)

    def translate(batch: Batch) -> list[Signal]:
        signals = rows.translate(batch)
        inventory.see(signals)
        publisher.gpus = inventory.gpus
        return signals

    def publish(batch: Batch, entries: list[Entry], _: bool) -> Iterator[None]:  # noqa: FBT001  as the pipeline has it
        yield from publisher.steps(batch, entries)
        if publisher.snapshot is not None:
            each(publisher.snapshot)

    def settle(interval: Interval) -> Entry:
        return economics.settle(interval, policies[interval.workload])

    await pipeline.run(rows.batches(), translate, meter, settle, ledger, publish)
    rest = [settle(interval) for interval in meter.finish(rows.at)]
    await ledger.post(rest, {})
    for _ in publish(Batch(rows.at, rows.at), rest, True):  # noqa: FBT003
        pass
    ledger.close()
    if publisher.snapshot is None:
        raise RecordingError(f"{folder}: the recording has no row")
    return publisher.snapshot


class _Rows:
    """The rows of a recording as batches; ``at`` is the time of the newest."""

    def __init__(self, folder: Path, layout: Plan, spans: Spans, names: Names) -> None:
        self.at = 0.0
        self._folder = folder
        self._spans = spans
        self._with_spans = layout.config.otlp is not None
        self._parsers = {name: PageParser(adapters.wanted(known)) for name, known in layout.adapters.items()}
        self._translators: dict[str, Callable[[Page], Signal]] = {
            name: adapters.Translator(name, known, layout.tenants.get(name), names.models(name))
            for name, known in layout.adapters.items()
        }
        self._reads_driver = "nvml" in layout.config.gpu.sources
        if layout.exporter is not None:
            self._add_exporter(layout.exporter)

    async def batches(self) -> AsyncIterator[Batch]:
        for row in recording.read(self._folder):
            self.at = max(self.at, row.at)
            yield Batch(self.at, self.at, tuple(self._samples(row)))

    def translate(self, batch: Batch) -> list[Signal]:
        signals: list[Signal] = []
        for sample in batch.samples:
            if isinstance(sample, Page):
                signals.append(self._translators[sample.source](sample))
            elif isinstance(sample, GpuReading):
                signals.append(sample)
            elif isinstance(sample, Export):
                signals += self._spans.signals(sample, batch.wall)
        return signals

    def _add_exporter(self, exporter: Target) -> None:
        """The page of dcgm-exporter, which tells of GPUs."""
        devices = adapters.Devices(adapters.dcgm())
        source = exporter.url.removeprefix("recording:")
        self._parsers[source] = PageParser(devices.wanted)
        self._translators[source] = lambda page: devices(replace(page, source=exporter.name))

    def _samples(self, row: recording.Row) -> Iterator[Sample]:
        if row.kind == "metrics" and row.source in self._parsers:
            yield self._page(row)
        elif row.kind == "nvml" and self._reads_driver:
            yield replace(recording.gpu_reading(row), at=self.at)
        elif row.kind == "otlp" and self._with_spans and row.status == "200":
            yield self._export(row)

    def _export(self, row: recording.Row) -> Export:
        from inferometer.sources.otlp.decode import decode, from_protobuf  # noqa: PLC0415  costs memory

        try:
            decoded = decode(from_protobuf(row.body), self._spans.reader_for, self.at)
        except SourceError as error:
            raise RecordingError(f"{self._folder}: the spans of {row.source} at {row.at}: {error}") from error
        return Export(row.source, self.at, requests=decoded.requests, outcomes=decoded.outcomes)

    def _page(self, row: recording.Row) -> Page:
        if row.status != "200":
            return Page(row.source, self.at, error=row.status)
        parsed = self._parsers[row.source].parse(row.body)
        error = "" if parsed.complete else "truncated"
        if error:
            return Page(row.source, self.at, error, malformed=parsed.malformed)
        return Page(row.source, self.at, layout=parsed.layout, values=parsed.values, malformed=parsed.malformed)


def _check_engines(layout: Plan, folder: Path) -> None:
    there = sources(folder)
    wanted = list(layout.targets)
    if layout.exporter is not None:
        wanted.append(layout.exporter.url.removeprefix("recording:"))
    missing = [name for name in wanted if name not in there]
    if missing:
        have = ", ".join(f"recording:{name}" for name in there) or "no pages at all"
        raise ConfigError([f"{folder}: the recording has no engine {name}; it has {have}" for name in missing])
