"""The image as a container engine would run it: its root read-only, as 65532, without a capability (make image)."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import Engines, Page, eventually, fetch, free_port

IMAGE = Path(os.environ.get("INFEROMETER_IMAGE", "unset"))
COMPRESSED_BYTES, UNPACKED_BYTES = 60_000_000, 130_000_000
MOUNTS = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=0700,uid=65532,gid=65532 ledger "$1/var/lib/inferometer"
mount -o remount,ro,bind "$1"
exec chroot --userspec=65532:65532 --groups= "$@"
"""

pytestmark = pytest.mark.skipif(
    not (IMAGE / "image.json").exists(), reason="INFEROMETER_IMAGE names no image: make image builds one"
)


def about():
    return json.loads((IMAGE / "image.json").read_text())["OCIv1"]


@contextmanager
def running(log, *arguments, entry=None):
    """The entry point in mount and process name spaces of its own; yields its process and its id out here."""
    settings = about()["config"]
    environ = dict(variable.split("=", 1) for variable in settings["Env"])
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", MOUNTS, "sh", IMAGE / "root"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *(entry or settings["Entrypoint"]), *arguments],
            stdout=out,
            stderr=out,
            env=environ | {"PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{environ['PATH']}"},
        )
    try:
        yield process, eventually(lambda: _child(process.pid), "its process")
    finally:
        process.kill()
        process.wait()


def _child(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def test_it_fits_its_budget():
    """60 MB compressed, 130 MB unpacked, gRPC included."""
    assert (IMAGE / "inferometer.tar").stat().st_size <= COMPRESSED_BYTES
    assert sum(path.lstat().st_size for path in (IMAGE / "root").rglob("*")) <= UNPACKED_BYTES


def test_it_says_what_it_is_and_runs_as_nobody():
    settings = about()["config"]
    assert settings["User"] == "65532:65532"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not [name for name in ("bin/sh", "bin/bash", "usr/bin/pip3") if (IMAGE / "root" / name).exists()]


def test_it_serves_read_only_and_without_rights_and_ends_on_sigterm(tmp_path, record_property):
    """With gRPC, a ledger and an engine; the process ends by itself, with 0, and its totals are on disk."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Engines(tmp_path / "engine.log", 1, 20.0) as engines:
        flags = [f"--engine.url={engines.urls[0]}", "--storage.path=/var/lib/inferometer", "--gpus=1"]
        flags += [f"--web.listen-address=127.0.0.1:{port}", "--price.gpu-hour=2.50", "--interval=200ms"]
        began = time.monotonic()
        with running(tmp_path / "agent.log", "run", *flags) as (process, pid):
            page = eventually(lambda: _page(url, "inferometer_tokens_total"), "the first complete page")
            record_property("cold_start_seconds", time.monotonic() - began)
            print(f"cold start: {time.monotonic() - began:.2f} s to the first complete page")  # noqa: T201
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\s+65532\s+65532", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert _is_read_only(pid)
            assert page.rows("inferometer_build_info")
            os.kill(pid, signal.SIGTERM)
            asked = time.monotonic()
            assert process.wait(10) == 0
            record_property("stop_seconds", time.monotonic() - asked)
        assert "stopped" in (tmp_path / "agent.log").read_text()
    assert "Traceback" not in (tmp_path / "agent.log").read_text()


def test_grpc_is_in_it(tmp_path):
    with running(tmp_path / "log", "-c", "import grpc.aio", entry=["python3"]) as (process, _):
        assert process.wait(20) == 0, (tmp_path / "log").read_text()


def _is_read_only(pid):
    """Nobody can write below its root."""
    roots = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return any(fields[4] == "/" and fields[5].startswith("ro") for fields in roots)


def _page(url, name):
    try:
        status, text = fetch(f"{url}/metrics")
    except OSError:
        return None
    page = Page(text) if status == 200 else None
    return page if page and page.rows(name) else None
