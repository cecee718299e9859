"""A /metrics page read fast: thousands of them are compared line by line while an agent is killed again and again."""

from __future__ import annotations

ENDS = ("_total", "_bucket", "_count", "_sum")


class Lines:
    """A page of the text format as it is written: ``values`` by name and labels, as they stand on it."""

    def __init__(self, text):
        rows = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
        self.values = {series: float(value) for series, _, value in rows}

    def sum(self, name, **labels):
        """The sum over the samples of that name that have these labels; None where there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        head = name + "{"
        found = [
            value
            for series, value in self.values.items()
            if (series.startswith(head) or series == name) and all(label in series for label in wanted)
        ]
        return sum(found) if found else None

    def counters(self):
        """Every value that must never fall."""
        return {s: value for s, value in self.values.items() if s.partition("{")[0].endswith(ENDS)}
