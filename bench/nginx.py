"""Every target at an address of its own, served by one nginx: pages as files, and the clock's second says which.

Nothing is compressed, as vLLM's /metrics is not, and connections are kept between readings.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from bench.access import Access
from bench.pages import Page
from bench.process import free_port, started

LIFE_SECONDS = 1000  # then the pages begin anew, as after a restart of all engines
_SECONDS_APART = 7  # the pages of targets whose addresses end in one digit and in the next
_LARGE_SECONDS, _LARGE_FILES = 15, 10
_START_SECONDS = 20.0
_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 16384; }}
http {{
    log_format bench '$msec $server_addr $status $body_bytes_sent $connection_requests';
    map $msec $second {{ "~(?<found>\\d{digits})\\.(?<tenths>\\d)" $found{tenths}; }}
    map $server_addr $group {{ "~(?<digit>\\d)$" $digit; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type "text/plain; version=0.0.4; charset=utf-8";
    gzip off;
    etag off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    keepalive_requests 1000000;
    open_file_cache max=20000 inactive=1h;
    open_file_cache_valid 1h;
{servers}
    server {{
        listen 127.0.0.1:{sink};
        access_log off;
        client_max_body_size 0;
        location / {{ return 204; }}
    }}
}}
"""
_SERVER = """\
    server {{
{listens}
        access_log {folder}/access.log bench;
        location = /metrics {{
            root {root};
            rewrite ^ /$group/$second break;
        }}
    }}
"""


class Site(Struct, frozen=True):
    """What is being served. ``urls``: by kind of page; ``sink``: takes whatever is written to it and forgets it."""

    urls: Mapping[str, list[str]]
    sink: str
    access: Access


def installed() -> str:
    """Where nginx is. Raises SystemExit without one."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit("nginx serves the pages and is not installed: make tools-bench")
    return found


class Shelf:
    """Pages as files under ``folder``, made once for all sites.

    ``life_seconds``: for how long they change, at most 1000. ``large``: kinds of which a file a second would fill the
    disk; they change every 15 s, and no more after 150 s.
    """

    def __init__(
        self, folder: Path, kinds: Mapping[str, Page], large: Collection[str] = (), life_seconds: float = LIFE_SECONDS
    ) -> None:
        self._folder, self._kinds, self._large = folder, kinds, large
        self._last = int(min(life_seconds, LIFE_SECONDS)) - 1

    def page(self, kind: str, second: int) -> Path:
        """The file with the page of a second."""
        if kind in self._large:
            second = min(second // _LARGE_SECONDS, _LARGE_FILES - 1) * _LARGE_SECONDS
        file = self._folder / "pages" / kind / str(second)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._kinds[kind](second))
        return file

    @contextlib.contextmanager
    def site(self, name: str, targets: Mapping[str, int], *, tenths: bool = False) -> Iterator[Site]:
        """Serve so many targets of each kind. ``tenths``: another page every tenth of a second, not every second."""
        folder, port, sink = self._folder / name, free_port(), free_port()
        folder.mkdir(parents=True)
        hosts = {kind: _hosts(place, count) for place, (kind, count) in enumerate(targets.items())}
        servers = [self._server(folder, kind, [f"{host}:{port}" for host in hosts[kind]], tenths) for kind in targets]
        text = _CONFIG.format(
            folder=folder, servers="".join(servers), sink=sink, digits="{2}" if tenths else "{3}",
            tenths="$tenths" if tenths else "",
        )  # fmt: skip
        config = folder / "nginx.conf"
        config.write_text(text, encoding="utf-8")
        urls = {kind: [f"http://{host}:{port}/metrics" for host in named] for kind, named in hosts.items()}
        command = [installed(), "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log")]
        with started(command, folder / "nginx.log"):
            _wait(next(iter(hosts.values()))[0], port, folder / "nginx.log")
            yield Site(urls, f"http://127.0.0.1:{sink}", Access(folder / "access.log"))

    def _server(self, folder: Path, kind: str, listens: list[str], tenths: bool) -> str:  # noqa: FBT001
        root = folder / kind
        now = time.time()
        begin = int(now * 10) if tenths else int(now)
        for group in {int(listen.partition(":")[0][-1]) for listen in listens}:
            (root / str(group)).mkdir(parents=True)
            for age in range(LIFE_SECONDS):
                name = f"{(begin + age) % LIFE_SECONDS:03d}"
                (root / str(group) / name).symlink_to(self.page(kind, min(age, self._last) + group * _SECONDS_APART))
        lines = "\n".join(f"        listen {listen};" for listen in listens)
        return _SERVER.format(listens=lines, folder=folder, root=root)


def _hosts(place: int, count: int) -> list[str]:
    """Addresses of the loopback network."""
    return [f"127.{16 + place}.{number // 250}.{number % 250 + 1}" for number in range(count)]


def _wait(host: str, port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"nginx does not serve:\n{log.read_text(encoding='utf-8') if log.exists() else ''}")
