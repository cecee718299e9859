"""An exporter of spans as OpenTelemetry's are: what was not acknowledged is sent again, until it is."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time

from exports import VLLM, add_resource, add_span, post, some_id
from live import Scoped
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_BATCH = 512  # the default of OpenTelemetry


class Exporter(Scoped):
    """Sends the spans of one engine to ``url``, in the order in which it was ``told`` of them, from a thread."""

    def __init__(self, url, service, seed):
        self.acknowledged = self.output_tokens = self.posts = self.acks = self.repeats = 0
        self.posted = 0  # distinct spans that were sent at least once
        self._url, self._service, self._rng = url, service, random.Random(seed)
        self._waiting, self._lock, self._ended = [], threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._send)

    def told(self, prompt, output, cached, began, ended):
        """A request was answered in full."""
        with self._lock:
            span = (some_id(self._rng), prompt, output, cached, began, ended)
            self._waiting.append(span)

    def begin(self):
        """Send from now on."""
        self._thread.start()

    def end(self):
        """Send no more."""
        self._ended.set()
        self._thread.join()

    @property
    def waiting(self):
        """How many spans nobody has acknowledged."""
        return len(self._waiting)

    def _send(self):
        sent = 0
        while not self._ended.is_set():
            with self._lock:
                batch = self._waiting[: sent or _BATCH]  # one that failed goes out again as it was
            if not batch:
                time.sleep(0.01)
                continue
            self.repeats += sent > 0
            self.posted = self.acknowledged + len(batch)
            sent, status = len(batch), 0
            self.posts += 1
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = post(self._url, self._message(batch), seconds=10).status
            assert status in {0, 200, 503}, f"an exporter would drop these spans: {status}"
            if status != 200:
                time.sleep(0.02)
                continue
            with self._lock:
                del self._waiting[:sent]
            self.acknowledged += sent
            self.output_tokens += sum(output for _, _, output, *_ in batch)
            self.acks += 1
            sent = 0

    def _message(self, batch):
        message = ExportTraceServiceRequest()
        add_resource(message, service__name=self._service)
        for ids, prompt, output, cached, began, ended in batch:
            e2e = ended - began
            attributes = VLLM | {
                "gen_ai.latency.time_to_first_token": e2e / 3,
                "gen_ai.latency.e2e": e2e,
                "gen_ai.latency.time_in_model_decode": e2e / 2,
                "gen_ai.usage.prompt_tokens": prompt,
                "gen_ai.usage.cached_tokens": cached,
                "gen_ai.usage.completion_tokens": output,
                "gen_ai.response.model": "small",
            }
            add_span(message, attributes, ids=ids, ended=ended, seconds=e2e)
        return message.SerializeToString()
