"""An engine whose pages are made of decisions: counters that grow, fall, leave, or are what no engine ever had."""

from __future__ import annotations

from inferometer import adapters

KINDS = ("vllm", "sglang", "trtllm", "litellm")
ADAPTERS = tuple(adapters.builtin()[name] for name in KINDS)
_NAMES = {adapter.engine: tuple(sorted(adapter.wanted)) for adapter in ADAPTERS}
_LABELS = ("", 'model_name="m"', 'model_name="m",engine="1"', 'model="n"', 'model_name="a\\"\\n"', 'finished_reason="stop",model_name="m"',
           'finished_reason="abort",model_name="m"', 'finished_reason="length"', 'le="0.5",model_name="m"', 'le="+Inf",model_name="m"', 'le="nan"',
           'le="-1",model_name="m"', 'stage="decode",model_name="m"', 'tenant="t",model_name="m"')  # fmt: skip
_START = (
    'vllm:prompt_tokens_total{model_name="m"}', 'vllm:generation_tokens_total{model_name="m"}',
    'vllm:request_success_total{finished_reason="stop",model_name="m"}', 'vllm:num_requests_running{model_name="m"}',
    'vllm:time_to_first_token_seconds_bucket{le="0.5",model_name="m"}', 'vllm:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"}',
    'vllm:time_to_first_token_seconds_sum{model_name="m"}', 'vllm:time_to_first_token_seconds_count{model_name="m"}', "process_start_time_seconds",
)  # fmt: skip


class Engine:
    """The series of a page and their values."""

    def __init__(self, start=1.0) -> None:
        self.values = dict.fromkeys(_START, 1.0)
        self.values["process_start_time_seconds"] = start

    def turn(self, draw) -> None:
        """One change of the page."""
        names = list(self.values)
        what = draw.below(8)
        if what < 3 and names:
            for _ in range(1 + draw.below(4)):
                self.values[draw.choose(names)] += draw.below(50)
        elif what == 3 and names:
            self.values[draw.choose(names)] = draw.number()
        elif what == 4 and names:
            self.values.pop(draw.choose(names))
        elif what == 5:
            self.values = dict.fromkeys(names, 0.0)
            self.values["process_start_time_seconds"] = draw.below(5000) + 0.5
        else:
            series = f"{draw.choose(_NAMES[draw.choose(KINDS)])}{{{draw.choose(_LABELS)}}}"
            self.values[series] = draw.number() if draw.byte() & 1 else 3.0

    def page(self) -> str:
        return "".join(f"{series} {value}\n" for series, value in self.values.items())
