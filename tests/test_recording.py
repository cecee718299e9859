"""Recordings: what is written is read back, and every fault is named with its line."""

import gzip
import os
import re

import pytest
from inferometer.errors import RecordingError
from inferometer.model import Gpu, GpuReading, Instance
from inferometer.sources import recording
from inferometer.sources.recording import Row, Writer, gpu_body, gpu_reading, read

HEAD = "at\tsource\tkind\tstatus\tfile\n"


def make(folder, *lines, head=HEAD):
    """A recording folder with one good page and the given index lines."""
    (folder / "pages").mkdir(parents=True)
    (folder / "pages" / "a.prom.gz").write_bytes(gzip.compress(b"x 1\n"))
    (folder / "index.tsv").write_text(head + "".join(lines))
    return folder


def test_what_is_written_is_read_back(tmp_path):
    """Pages and spans come back byte for byte with times, sources and failures, in order, also without close()."""
    rows = [
        Row(1795398391.095374, "vllm-a", "metrics", "200", b"x 1\n" * 1000),
        Row(1795398391.1, "http://h:8000/../metrics", "metrics", "200", b"y 1\n"),
        Row(1795398392.0, "vllm-a", "metrics", "timeout", b""),
        Row(1795398391.5, "vllm-a", "otlp", "200", b"\x0a\x00\xff"),
        Row(1795398391.5, "vllm-a", "otlp", "200", b"\x1f\x8b no gzip though it begins like one"),
    ]
    with Writer(tmp_path / "deep" / "down") as writer:
        for n, row in enumerate(rows):
            writer.write(row.at, row.source, row.kind, row.status, row.body)
            assert list(read(tmp_path / "deep" / "down")) == rows[: n + 1]
    assert (
        (tmp_path / "deep" / "down" / "index.tsv").read_text().startswith(HEAD + "1795398391.095374\tvllm-a\tmetrics")
    )
    assert sorted(p.name for p in (tmp_path / "deep" / "down").iterdir()) == ["index.tsv", "pages", "spans"]


def test_a_recording_is_never_overwritten(tmp_path):
    """A folder with an index is refused, and so is a body whose file is there already."""
    Writer(tmp_path / "a").close()
    with pytest.raises(RecordingError, match="there is a recording already; choose another folder"):
        Writer(tmp_path / "a")
    (tmp_path / "b" / "pages").mkdir(parents=True)
    (tmp_path / "b" / "pages" / "s-000000.prom.gz").write_bytes(b"precious")
    with Writer(tmp_path / "b") as writer, pytest.raises(RecordingError, match="choose another folder"):
        writer.write(1.0, "s", "metrics", "200", b"x 1\n")
    assert (tmp_path / "b" / "pages" / "s-000000.prom.gz").read_bytes() == b"precious"


@pytest.mark.parametrize(("source", "kind", "status"), [("a\tb", "metrics", "200"), ("a", "metrics", "2\n0"),
                                                        ("", "metrics", "200"), ("a", "pages", "200")])  # fmt: skip
def test_fields_that_would_break_the_index_are_refused(tmp_path, source, kind, status):
    with Writer(tmp_path) as writer, pytest.raises(RecordingError, match=r"index.tsv"):
        writer.write(1.0, source, kind, status, b"x 1\n")
    assert list(read(tmp_path)) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=r"file: .*; choose a folder that can be written"):
        Writer(tmp_path / "file")


def test_spellings_that_are_fine(tmp_path):
    """CRLF, blank lines, a page that is not compressed and a failure without a file are all read."""
    make(
        tmp_path,
        "1.5\ta\tmetrics\t200\tpages/a.prom.gz\r\n",
        "\n",
        "2\ta\tmetrics\t200\t./b.prom\n",
        "3\ta\totlp\treset\t\n",
    )
    (tmp_path / "b.prom").write_bytes(b"y 2\n")
    assert [(row.at, row.body) for row in read(tmp_path)] == [(1.5, b"x 1\n"), (2.0, b"y 2\n"), (3.0, b"")]


GOOD = "1\ta\tmetrics\t200\tpages/a.prom.gz\n"
FAULTS = {
    "no time": ("soon\ta\tmetrics\t200\t\n", "2: 'soon' is no time; write unix seconds"),
    "endless time": ("inf\ta\tmetrics\t200\t\n", "2: 'inf' is no time"),
    "fields": ("1\ta\tmetrics\t200\n", "2: 4 fields where 5 belong; separate them with tabs"),
    "kind": ("1\ta\tlogs\t200\t\n", "2: kind 'logs' is unknown; write metrics or otlp"),
    "source": ("1\t\tmetrics\t200\t\n", "2: the source is empty; name the engine"),
    "cut": (GOOD + "1\ta\tmetrics\t200\tpages/a.pr", "3: the line is cut off; delete it"),
    "endless line": (GOOD + "1\ta\tmetrics\t" + "2" * 100_000 + "\t\n", "3: the line is cut off"),
    "absolute": ("1\ta\tmetrics\t200\t/etc/hostname\n", "2: '/etc/hostname' leaves the recording"),
    "outside": (
        "1\ta\tmetrics\t200\tpages/../../x\n",
        "2: 'pages/../../x' leaves the recording; name a file inside it",
    ),
    "missing": (
        GOOD + "1\ta\tmetrics\t200\tpages/b\n",
        "3: .*/pages/b cannot be opened .*; restore it or delete the line",
    ),
    "folder": ("1\ta\tmetrics\t200\tpages\n", "2: .*/pages is no file"),
    "nul": ("1\ta\tmetrics\t200\ta\0b\n", "2: .* leaves the recording"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_line_and_remedy(tmp_path, name):
    """Rows before the fault are given; then comes the sentence."""
    lines, sentence = FAULTS[name]
    rows = []
    with pytest.raises(RecordingError, match=re.escape(f"{tmp_path}/r/index.tsv:") + sentence):
        rows.extend(read(make(tmp_path / "r", lines)))
    assert len(rows) == lines.startswith(GOOD)


def test_a_folder_without_a_recording(tmp_path):
    """No index, another header, or an index that is a link: each is said."""
    with pytest.raises(RecordingError, match=r"index.tsv cannot be opened .*; give the folder that holds it"):
        list(read(tmp_path / "none"))
    with pytest.raises(RecordingError, match=r"index.tsv:1: the header must be at source kind status file"):
        list(read(make(tmp_path / "r", head="time\tsource\n")))
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "index.tsv").symlink_to(tmp_path / "r" / "index.tsv")
    with pytest.raises(RecordingError, match=r"index.tsv cannot be opened"):
        list(read(tmp_path / "l"))


def test_links_and_pipes_are_not_followed(tmp_path):
    """Nothing that a recording names leads out of it or keeps the reader waiting."""
    secret = tmp_path / "secret"
    secret.write_text("hush")
    folder = make(tmp_path / "r")
    (folder / "link").symlink_to(secret)
    (folder / "dir").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    for name, sentence in (
        ("link", "is a symbolic link"),
        ("dir/secret", "is a symbolic link"),
        ("pipe", "is no file"),
    ):
        (folder / "index.tsv").write_text(f"{HEAD}1\ta\tmetrics\t200\t{name}\n")
        with pytest.raises(RecordingError, match=f"index.tsv:2: .*{sentence}"):
            list(read(folder))


def test_bodies_are_bounded(tmp_path, monkeypatch):
    """A bomb, an oversized file and a damaged one end in a sentence, not in memory."""
    monkeypatch.setattr(recording, "MAX_BODY_BYTES", 100_000)
    folder = make(tmp_path / "r", GOOD)
    page = folder / "pages" / "a.prom.gz"
    cases = [
        (gzip.compress(bytes(50_000_000)), "inflates beyond 100000 bytes"),
        (os.urandom(100_001), "larger than 100000 bytes"),
        (b"x 1\n", "the compressed body is damaged"),
        (gzip.compress(b"x 1\n")[:-2], "ends in the middle"),
    ]
    for body, sentence in cases:
        page.write_bytes(body)
        with pytest.raises(RecordingError, match=f"index.tsv:2: .*{sentence}"):
            list(read(folder))


WHOLE = Gpu("GPU-0", 0, "NVIDIA Test", power_watts=0.1 + 0.2, energy_joules=9_007_199_254.741, xids={"79": 1.0},
            throttle_seconds={"power": 1e-9}, ecc_errors=0.0)  # fmt: skip
PARTS = Gpu("GPU-1", 1, up=False, instances=(Instance("MIG-1", 2, "3g.40gb", 3, 4, activity_ratio=1 / 3),))


def test_gpus_are_read_back_to_the_last_bit(tmp_path):
    """Every reading of GPUs, instances included, at the row's time; a failed one is its reason."""
    whole = GpuReading("nvml", 1795398391.095374, "", (WHOLE, PARTS), "580.95.05", 0.0123, "", "13.580.95.05")
    failed = GpuReading("nvml", 1795398392.5, "timeout")
    with Writer(tmp_path) as writer:
        for reading in (whole, failed):
            writer.write(reading.at, reading.source, "nvml", reading.error or "200", gpu_body(reading))
    assert [gpu_reading(row) for row in read(tmp_path)] == [whole, failed]
    assert [path.name for path in (tmp_path / "gpus").iterdir()] == ["nvml-000000.json.gz"]
    assert [row.at for row in read(tmp_path)] == [whole.at, failed.at]


@pytest.mark.parametrize("body", [b"{", b"[]", b"x 1\n", b'{"source": "nvml"}', b'{"source":"nvml","at":1,"gpus":[{}]}',
                                  b'{"source":"nvml","at":1,"gpus":[{"uuid":1,"index":0}]}'])  # fmt: skip
def test_a_body_that_is_no_reading_of_gpus(body):
    with pytest.raises(
        RecordingError, match=r"the row of nvml at 7\.000000: its body is no reading .*; delete the line"
    ):
        gpu_reading(Row(7.0, "nvml", "nvml", "200", body))
