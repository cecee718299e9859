"""An API server that knows pods: lists, watches that go on from any version, bookmarks, 410 Gone, failures, tokens."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from live import Scoped


def pod(
    name, port, *, namespace="llm", node="n1", uid="", owner=None, annotations=None, labels=None, gpus=0, ip="127.0.0.1"
):
    """A pod as it is in the cluster; ``owner``: kind and name. Its page is asked for by our annotations unless told."""
    asked = (
        {"inferometer.dev/scrape": "true", "inferometer.dev/port": str(port)} if annotations is None else annotations
    )
    kind, above = owner or ("ReplicaSet", f"{name.rpartition('-')[0]}")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{namespace}-{name}",
            "annotations": asked,
            "labels": labels or {},
            "ownerReferences": [{"kind": kind, "name": above, "controller": True, "apiVersion": "v1", "uid": "u"}],
            "managedFields": [{"manager": "x" * 100_000}],  # a real pod is longer than most buffers
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "engine",
                    "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus), "memory": "1Gi"} if gpus else {}},
                }
            ],
        },
        "status": {"phase": "Running", "podIP": ip},
    }


class ApiServer(Scoped):
    """Pods come by ``add``, ``change`` and ``remove``; what goes wrong is asked for by the other methods.

    ``tls``: the context to serve with, None = none.
    """

    def __init__(self, token="", tls=None):
        self.token = token
        self.asked = []
        self._pods, self._events = {}, []
        self._version, self._oldest, self._cuts = 100, 0, 0
        self._failures = []
        self._news = threading.Condition()
        self._ended = False
        handler = type("Handler", (_Answer,), {"server_of_pods": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if tls is not None else ''}://127.0.0.1:{self._server.server_port}"

    def begin(self):
        """Listen."""
        self._thread.start()

    def end(self):
        """Listen no more."""
        with self._news:
            self._ended = True
            self._news.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- what happens in the cluster

    def add(self, new):
        self._happen("ADDED", new)

    def change(self, name, change, namespace="llm"):
        """``change(pod)`` alters a copy of it."""
        altered = copy.deepcopy(self._pods[namespace, name])
        change(altered)
        self._happen("MODIFIED", altered)

    def terminate(self, name, namespace="llm"):
        """Asked to stop: it is there until it has."""
        self.change(name, lambda pod: pod["metadata"].update(deletionTimestamp="2026-11-24T00:00:00Z"), namespace)

    def remove(self, name, namespace="llm"):
        self._happen("DELETED", copy.deepcopy(self._pods[namespace, name]))

    def bookmark(self):
        """Tell every watch how far it is."""
        with self._news:
            self._version += 1
            mark = {"kind": "Pod", "metadata": {"resourceVersion": str(self._version)}, "spec": {"containers": None}}
            self._events.append((self._version, "BOOKMARK", mark))
            self._news.notify_all()

    # -- what goes wrong

    def cut(self):
        """Every watch breaks off, in the middle of a line."""
        with self._news:
            self._cuts += 1
            self._news.notify_all()

    def forget(self):
        """Nobody can go on from any version so far: 410 Gone."""
        with self._news:
            self._version += 10
            self._oldest, self._events = self._version, []

    def fail(self, *codes):
        """The next answers, one after the other; a string is sent as the text of a 200."""
        self._failures += codes

    def _happen(self, what, pod):
        with self._news:
            self._version += 1
            pod["metadata"]["resourceVersion"] = str(self._version)
            key = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if what == "DELETED":
                self._pods.pop(key)
            else:
                self._pods[key] = pod
            self._events.append((self._version, what, pod))
            self._news.notify_all()

    # -- what it answers

    def listed(self, query, wanted):
        """Status and body of a list, page by page."""
        with self._news:
            chosen = [pod for pod in self._pods.values() if wanted(pod)]
            start = int(query.get("continue", "0"))
            end = start + int(query.get("limit", "500"))
            more = {"continue": str(end)} if end < len(chosen) else {}
            return {"metadata": {"resourceVersion": str(self._version), **more}, "items": chosen[start:end] or None}

    def watched(self, since, seconds, wanted):
        """Events after a version; None when the watch is to break off."""
        end, cuts = time.monotonic() + seconds, self._cuts
        if since < self._oldest:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            yield {"type": "ERROR", "object": status}
            return
        while True:
            with self._news:
                if not self._waited(since, cuts, end):
                    return
                if self._ended or cuts != self._cuts:
                    yield None
                    return
                new = [event for event in self._events if event[0] > since]
            for version, what, pod in new:
                since = version
                if what == "BOOKMARK" or wanted(pod):
                    yield {"type": what, "object": pod}

    def _waited(self, since, cuts, end):
        return self._news.wait_for(lambda: self._ready(since, cuts), max(0.0, end - time.monotonic()))

    def _ready(self, since, cuts):
        return self._ended or cuts != self._cuts or any(version > since for version, _, _ in self._events)


class _Answer(BaseHTTPRequestHandler):
    server_of_pods: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        api, parts = self.server_of_pods, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        api.asked.append((parts.path, query))
        if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
            self._send(401, {"kind": "Status", "code": 401})
        elif api._failures:
            failure = api._failures.pop(0)
            self._send(failure if isinstance(failure, int) else 200, failure)
        elif query.get("watch") == "true":
            self._stream(api, query, self._wanted(parts.path, query))
        else:
            self._send(200, api.listed(query, self._wanted(parts.path, query)))

    def _wanted(self, path, query):
        namespace = path.split("/")[4] if path.startswith("/api/v1/namespaces/") else None
        node = query.get("fieldSelector", "").removeprefix("spec.nodeName=")

        def wanted(pod):
            here = namespace in {None, pod["metadata"]["namespace"]}
            return here and node in {"", pod["spec"]["nodeName"]}

        return wanted

    def _stream(self, api, query, wanted):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in api.watched(int(query["resourceVersion"]), float(query["timeoutSeconds"]), wanted):
            if event is None:
                self._chunk(b'{"type":"MODI')
                self.close_connection = True
                return
            whole = json.dumps(event).encode() + b"\n"
            self._chunk(whole[:50_000])
            if whole[50_000:]:
                self._chunk(whole[50_000:])
        self._chunk(b"")

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, status, answer):
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        """Not on the test's output."""
