"""The metrics page of one engine process: which event moves which family, as vLLM counts."""

from __future__ import annotations

from dataclasses import dataclass

from inferometer.sim import families
from inferometer.sim.flight import Flight
from inferometer.sim.page import Histogram, Scalar

_BASE_OPEN_FDS = 34
_RESIDENT_BYTES, _VIRTUAL_BYTES, _MAX_FDS = 663158784.0, 2578583552.0, 20000.0
_STATUS = {"ok": "2xx", "error": "2xx", "vanished": "2xx", "rejected": "5xx"}  # streams: 200 is sent before an error


@dataclass(frozen=True)
class Gauges:
    """What is true at the instant of a reading; ``connections`` are open requests, served or not."""

    running: int = 0
    waiting: int = 0
    kv_cache_ratio: float = 0.0
    connections: int = 0
    cpu_seconds: float = 0.0


class Sheet:
    """Counters, gauges and histograms of one process that started at ``started`` (unix seconds)."""

    def __init__(self, model: str, max_model_len: int, started: float) -> None:
        self._started = started
        owner = {"engine": "0", "model_name": model}
        self._owners = {"": {}, "model": {"model_name": model}, "engine": owner}
        self._process = {f.name: self._scalar(f) for f in families.PROCESS}
        self.scalars = {f.name: self._scalar(_vllm(f)) for f in families.SCALARS}
        rows = families.histograms(max_model_len)
        self.histograms = {f.name: Histogram(_vllm(f), owner, started) for f in rows}
        self._http = self._scalar(families.HTTP_REQUESTS)
        self._http_seconds = Histogram(families.HTTP_DURATION, {}, started)
        self._config = (
            "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
            "# TYPE vllm:cache_config_info gauge\n"
            'vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
            'gpu_memory_utilization="0.92",prefix_caching_hash_algo="sha256"} 1.0\n'
        )
        self._set_constants()

    def scheduled(self, flight: Flight) -> None:
        """A request left the queue: its prefix was looked up."""
        self.scalars["prefix_cache_queries"].add(flight.request.prompt_tokens)
        self.scalars["prefix_cache_hits"].add(flight.request.cached_tokens)
        self.scalars["prompt_tokens_cached_by_source"].add(flight.request.cached_tokens, "device")

    def first_token(self, flight: Flight) -> None:
        """The prompt is computed: its tokens and the TTFT count now."""
        prompt, cached = flight.request.prompt_tokens, flight.request.cached_tokens
        self.scalars["prompt_tokens"].add(prompt)
        self.scalars["prompt_tokens_by_source"].add(prompt - cached, "local_compute")
        self.scalars["prompt_tokens_by_source"].add(cached, "local_cache_hit")
        self.scalars["prompt_tokens_cached"].add(cached)
        self.histograms["time_to_first_token_seconds"].observe(flight.last - flight.request.at)

    def next_token(self, gap_seconds: float) -> None:
        """A further token of one request."""
        self.histograms["inter_token_latency_seconds"].observe(gap_seconds)

    def stepped(self, computed: int, generated: int) -> None:
        """A step ended in which ``generated`` tokens came out and ``computed`` prompt tokens were completed."""
        self.scalars["generation_tokens"].add(generated)
        self.histograms["iteration_tokens_total"].observe(computed + generated)

    def finished(self, flight: Flight) -> None:
        """A request came to its end."""
        request, observe = flight.request, self._observe
        self.scalars["request_success"].add(1, request.finish)
        observe("request_prompt_tokens", request.prompt_tokens)
        observe("request_generation_tokens", flight.output_tokens)
        observe("request_max_num_generation_tokens", request.max_tokens or request.output_tokens)
        observe("request_params_n", 1)
        observe("request_params_max_tokens", request.max_tokens or request.output_tokens)
        observe("request_num_preemptions", 0)
        observe("request_prefill_kv_computed_tokens", request.prompt_tokens - request.cached_tokens)
        observe("request_time_per_output_token_seconds", flight.tpot or 0.0)
        observe("e2e_request_latency_seconds", flight.e2e or 0.0)
        self._phases(flight, flight.scheduled or 0.0, flight.first or 0.0)

    def _phases(self, flight: Flight, scheduled: float, first: float) -> None:
        self._observe("request_queue_time_seconds", scheduled - flight.request.at)
        self._observe("request_inference_time_seconds", flight.last - scheduled)
        self._observe("request_prefill_time_seconds", first - scheduled)
        self._observe("request_decode_time_seconds", flight.last - first)

    def rejected(self) -> None:
        """The queue was full."""
        self.scalars["admission_rejections"].add(1, "max_num_queued_reqs")

    def answered(self, flight: Flight, now: float) -> None:
        """The HTTP call of an ended request is over."""
        self.http(flight.request.handler, _STATUS[flight.outcome], now)
        self._http_seconds.observe(now - flight.request.at)

    def http(self, handler: str, status: str, now: float) -> None:
        """One more POST call to ``handler`` ended with ``status`` (2xx, 4xx, 5xx)."""
        key = handler + status
        if key not in self._http.values:
            self._http.open(key, {"handler": handler, "method": "POST", "status": status}, now)
        self._http.add(1, key)

    def render(self, gauges: Gauges) -> bytes:
        """The page as a server sends it."""
        self._process["process_cpu_seconds_total"].set(gauges.cpu_seconds)
        self._process["process_open_fds"].set(_BASE_OPEN_FDS + gauges.connections)
        self.scalars["num_requests_running"].set(gauges.running)
        self.scalars["num_requests_waiting"].set(gauges.waiting)
        self.scalars["num_requests_waiting_by_reason"].set(gauges.waiting, "capacity")
        self.scalars["kv_cache_usage_perc"].set(gauges.kv_cache_ratio)
        own = [s.render() for part in (self._process, self.scalars, self.histograms) for s in part.values()]
        return "".join([*own, self._config, self._http.render(), self._http_seconds.render()]).encode()

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)

    def _scalar(self, family: families.Family) -> Scalar:
        return Scalar(family, self._owners[family.owner], self._started)

    def _set_constants(self) -> None:
        values = {
            "process_virtual_memory_bytes": _VIRTUAL_BYTES,
            "process_resident_memory_bytes": _RESIDENT_BYTES,
            "process_start_time_seconds": self._started,
            "process_max_fds": _MAX_FDS,
        }
        for name, value in values.items():
            self._process[name].set(value)
        info = {"implementation": "CPython", "major": "3", "minor": "11", "patchlevel": "7", "version": "3.11.7"}
        self._process["python_info"].open("", info, self._started)
        self._process["python_info"].set(1)
        self.scalars["engine_sleep_state"].set(1, "awake")


def _vllm(family: families.Family) -> families.Family:
    return family._replace(name=f"vllm:{family.name}")
