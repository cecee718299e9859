"""dcgm-exporter's pages: every device once, in all the spellings that its releases and Prometheus give them."""

from __future__ import annotations

import gzip
import itertools
import random
import re
from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import Devices
from inferometer.adapters.device_language import PARTS, SIGNALS
from inferometer.adapters.mig import memory_of, slices
from inferometer.economics.attribution import fractions, mig_weight
from inferometer.errors import AdapterError
from inferometer.model import Gpu, GpuReading, Instance, Page, Pod
from inferometer.sources.page import PageParser
from readings import scraped

PAGES = Path(__file__).parent / "pages"
FILE = Path(adapters.__file__).parent / "dcgm.yaml"
DCGM = adapters.dcgm()
BLANK = 9223372036854775794
H100 = 'gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"'
HELD = 'namespace="prod",pod="vllm-0",container="vllm"'


def body(name: str) -> str:
    return gzip.decompress((PAGES / f"{name}.prom.gz").read_bytes()).decode()


def reading(text: str, devices: Devices | None = None, at: float = 7.0) -> GpuReading:
    devices = devices or Devices(DCGM)
    parsed = PageParser(devices.wanted).parse(text.encode())
    assert parsed.malformed == 0
    return devices(Page("dcgm", at, layout=parsed.layout, values=parsed.values, seconds=0.1))


def row(name: str, value: float, *labels: str) -> str:
    return f"DCGM_FI_{name}{{{','.join(labels or (H100,))}}} {value}\n"


def gpu(*rows: str) -> Gpu:
    (only,) = reading("".join(rows)).gpus
    return only


def one_of(reading: GpuReading, uuid: str) -> Gpu:
    (found,) = (one for one in reading.gpus if one.uuid == uuid)
    return found


# -- the constructed pages ------------------------------------------------------------------------


def test_the_mig_page_has_every_joule_once() -> None:
    """1,435.7 W, not the 3,854.7 W that a sum over its rows gives; of energy, the largest row of each device."""
    text = body("dcgm-exporter-mig")
    assert _naive(text, "POWER_USAGE") == pytest.approx(3854.7, abs=0.05)
    found = reading(text)
    assert sum(one.power_watts or 0 for one in found.gpus) == pytest.approx(433.78 + 372.48 + 629.447, rel=1e-12)
    largest: dict[str, float] = {}
    for uuid, millijoules in re.findall(r'TOTAL_ENERGY_CONSUMPTION\{.*UUID="([^"]+)".*\} (\d+)', text):
        largest[uuid] = max(largest.get(uuid, 0.0), float(millijoules))
    assert {one.uuid: one.energy_joules for one in found.gpus} == {u: mj * 1e-3 for u, mj in largest.items()}
    assert sum(largest.values()) / 1000 < _naive(text, "TOTAL_ENERGY_CONSUMPTION") / 1000 / 2
    assert (found.error, found.source, found.at, found.seconds, found.driver) == ("", "dcgm", 7.0, 0.1, "590.48.01")


def _naive(text: str, name: str) -> float:
    return sum(map(float, re.findall(rf"^DCGM_FI_DEV_{name}\{{.*\}} (\S+)$", text, re.MULTILINE)))


def test_instances_of_the_mig_page() -> None:
    """Each instance has its own activity, memory and pod; their shares of a device add up to the whole of it."""
    first, _, plain = reading(body("dcgm-exporter-mig")).gpus
    assert [(one.gi, one.profile, one.compute_slices, one.memory_slices) for one in first.instances] == [
        (2, "3g.40gb", 3, 4),
        (3, "2g.20gb", 2, 2),
        (9, "1g.10gb", 1, 1),
        (10, "1g.10gb", 1, 1),
    ]
    assert first.instances[0] == Instance(
        uuid=f"{first.uuid}/2",
        gi=2,
        profile="3g.40gb",
        compute_slices=3,
        memory_slices=4,
        activity_ratio=0.91,
        tensor_active_ratio=0.33,
        dram_active_ratio=0.52,
        memory_used_bytes=33411 * 2.0**20,
        memory_total_bytes=40448 * 2.0**20,
        pods=(Pod("llm-prod", "vllm-mistral-7b-6b5d9c7f8-2wq8r", "vllm"),),
    )
    assert first.instances[3].pods == ()
    weights = [mig_weight(one.compute_slices, one.memory_slices) for one in first.instances]
    assert weights == pytest.approx([0.5, 0.285714, 0.142857, 0.142857], abs=1e-6)
    assert sum(fractions(weights)) == pytest.approx(1.0, abs=1e-12)
    assert (first.utilization_ratio, first.activity_ratio, first.memory_used_bytes, first.pods) == (None,) * 3 + ((),)
    assert (plain.instances, plain.utilization_ratio, plain.pods[0].name) == (
        (),
        1.0,
        "vllm-qwen3-8b-7f6d5c4b9-k4m2t",
    )


def test_a_whole_page_in_base_units() -> None:
    """Eight GPUs of one pod; millijoules, megahertz, mebibytes and percent are gone."""
    found = reading(body("dcgm-exporter"))
    assert [one.index for one in found.gpus] == list(range(8))
    assert found.gpus[0] == Gpu(
        uuid="GPU-a78beb7e-0787-40de-af96-0063bc67ba94",
        index=0,
        name="NVIDIA H100 80GB HBM3",
        power_watts=642.594345,
        energy_joules=310_000_941_077 * 1e-3,
        utilization_ratio=1.0,
        activity_ratio=0.979877,
        tensor_active_ratio=0.207468,
        dram_active_ratio=0.61321,
        memory_used_bytes=74218 * 2.0**20,
        memory_total_bytes=81559 * 2.0**20,
        temperature_celsius=61.0,
        memory_temperature_celsius=56.0,
        sm_clock_hertz=1.98e9,
        memory_clock_hertz=2.619e9,
        pods=(Pod("llm-prod", "vllm-llama-3-3-70b-6c9f7d8b54-x2v9q", "vllm"),),
    )
    none = {one.nvlink_tx_bytes or one.pcie_tx_bytes or one.power_limit_watts for one in found.gpus}
    assert none == {None}  # what the page has of these are rates, whatever its TYPE says


# -- spellings ------------------------------------------------------------------------------------

RENAMED = {
    "DCGM_FI_DEV_POWER_USAGE": "DCGM_FI_DEV_BOARD_POWER_WATTS",
    "DCGM_FI_DEV_GPU_UTIL": "DCGM_FI_DEV_GPU_UTIL_RATIO",
    "DCGM_FI_DEV_GPU_TEMP": "DCGM_FI_DEV_GPU_TEMP_CELSIUS",
    "DCGM_FI_DEV_MEMORY_TEMP": "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS",
    "DCGM_FI_DEV_XID_ERRORS": "DCGM_FI_DEV_XID_ERROR",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
    "DCGM_FI_PROF_DRAM_ACTIVE": "DCGM_FI_PROF_DRAM_UTIL_RATIO",
}


def _renamed(text: str) -> str:
    for old, new in RENAMED.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def _other_values(text: str, names: set[str]) -> str:
    """The rows of these names with values that are all wrong."""
    lines = [line for line in text.splitlines() if line.partition("{")[0] in names]
    return "".join(line.replace("} ", "} 1") + "\n" for line in lines)


def _shuffled(text: str) -> str:
    """Labels in another order, no HELP and no TYPE."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    order = random.Random(3)

    def mixed(match: re.Match[str]) -> str:
        labels = re.findall(r'\w+="[^"]*"', match[0])
        return "{" + ",".join(order.sample(labels, len(labels))) + "}"

    return "\n".join(re.sub(r"\{.*\}", mixed, line) for line in lines) + "\n"


SPELLINGS = {
    "Hostname": lambda text: text.replace("hostname=", "Hostname="),
    "uuid": lambda text: text.replace("UUID=", "uuid="),
    "gpu_uuid": lambda text: text.replace("UUID=", "gpu_uuid=").replace("modelName=", "model_name="),
    "DCGM 4.6": _renamed,
    "both names at once": lambda text: text + _other_values(_renamed(text), set(RENAMED.values())),
    "order": _shuffled,
    "Prometheus": lambda text: re.sub(
        r'hostname="[^"]*"',
        'pod="exporter-x",namespace="gpu-operator",container="exporter"',
        re.sub(r",(pod|namespace|container)=", r",exported_\1=", text),
    ),
    "2.0": lambda text: (
        text.replace(",container=", ",container_name=")
        .replace(",namespace=", ",pod_namespace=")
        .replace(",pod=", ",pod_name=")
    ),
    "empty pods": lambda text: re.sub(
        r'(DCGM_FI_DRIVER_VERSION="[^"]+")\}', r'\1,container="",namespace="",pod=""}', text
    ),
}


@pytest.mark.parametrize("name", ["dcgm-exporter", "dcgm-exporter-mig"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(name: str, spelling: str) -> None:
    """However a release or Prometheus spells the page, the reading is the same."""
    text = body(name)
    spelled = SPELLINGS[spelling](text)
    assert spelled != text or (name, spelling) == ("dcgm-exporter", "empty pods")
    assert reading(spelled) == reading(text)


def test_free_gpus_of_a_page_through_prometheus() -> None:
    """There `pod` names the exporter on every row, and a GPU without exported_pod belongs to nobody."""
    own = 'pod="dcgm-exporter-x7",namespace="gpu-operator"'
    free = row("DEV_POWER_USAGE", 70, 'gpu="1",UUID="GPU-b"', own)
    held = row("DEV_POWER_USAGE", 600, H100, own, 'exported_pod="vllm-0",exported_namespace="prod"')
    found = reading(free + held)
    assert [one.pods for one in found.gpus] == [(), (Pod("prod", "vllm-0"),)]


# -- rows that repeat -----------------------------------------------------------------------------


def test_virtual_gpus_count_once() -> None:
    """With one row per replica the device's values come several times, and every holder is named."""
    rows = [
        f'{H100},vgpu="{k}",namespace="prod",pod="vllm-{k % 2}",container="c"' if k < 3 else f'{H100},vgpu="{k}"'
        for k in range(4)
    ]
    found = gpu(*(row("DEV_POWER_USAGE", 300, one) + row("DEV_TOTAL_ENERGY_CONSUMPTION", 5000, one) for one in rows))
    assert (found.power_watts, found.energy_joules) == (300.0, 5.0)
    assert found.pods == (Pod("prod", "vllm-0", "c"), Pod("prod", "vllm-1", "c"))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_memory_by_pod_is_not_the_devices(order: tuple[int, ...]) -> None:
    """Newer exporters write memory and utilisation by pod beside the row of the whole device, in any order."""
    names = (H100, f'{H100},vgpu="0",{HELD}', f'{H100},vgpu="1",namespace="prod",pod="b"')
    rows = [
        row("DEV_FB_USED", used, one) + row("DEV_FB_FREE", 81080 - 70000, one) + row("DEV_GPU_UTIL", busy, one)
        for one, used, busy in zip(names, (70000, 40000, 30000), (50, 90, 10), strict=True)
    ]
    found = gpu(*(rows[k] for k in order))
    assert found.memory_used_bytes == 70000 * 2.0**20
    assert found.memory_total_bytes == 81080 * 2.0**20
    assert found.utilization_ratio == 0.5


def test_whole_device_beside_its_instances() -> None:
    """`-d g+i`: the device's row is no instance, and the instances' rows say nothing of its activity."""
    instances = [f'{H100},GPU_I_PROFILE="3g.40gb",GPU_I_ID="{k}",{HELD}' for k in (1, 2)]
    whole = f'{H100},GPU_I_PROFILE="",GPU_I_ID="",namespace="prod",pod="one-of-them"'
    found = gpu(
        *(row("PROF_GR_ENGINE_ACTIVE", 0.2 * k, one) for k, one in enumerate(instances, 1)),
        row("PROF_GR_ENGINE_ACTIVE", 0.6, whole),
        *(row("DEV_POWER_USAGE", 400 + k, one) for k, one in enumerate([whole, *instances])),
        *(row("DEV_FB_USED", 1000 * k, one) for k, one in enumerate([whole, *instances], 1)),
        *(row("DEV_GPU_UTIL", 0, one) for one in instances),  # old exporters wrote this
    )
    assert [(one.uuid, one.activity_ratio, one.memory_used_bytes) for one in found.instances] == [
        ("GPU-a/1", 0.2, 2000 * 2.0**20),
        ("GPU-a/2", 0.4, 3000 * 2.0**20),
    ]
    assert (found.activity_ratio, found.power_watts, found.memory_used_bytes) == (0.6, 400.0, 1000 * 2.0**20)
    assert (found.utilization_ratio, found.pods) == (None, ())


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [BLANK, BLANK + 3, 2147483632, "140737488355328.000000", "NaN", "+Inf", -1])
def test_blanks_are_no_readings(value: float | str) -> None:
    """What DCGM writes in place of a value is not a petajoule; the GPU is there nevertheless."""
    names = [name for name in DCGM.wanted if "XID" not in name]
    text = "".join(f"{name}{{{H100}}} {value}\n" for name in names)
    assert gpu(text) == Gpu(uuid="GPU-a", index=0, name="NVIDIA H100 80GB HBM3")


def test_zero_is_a_reading_but_for_a_missing_sensor() -> None:
    found = gpu(row("DEV_MEMORY_TEMP", 0), row("DEV_GPU_TEMP", 0), row("DEV_GPU_UTIL", 0))
    assert (found.memory_temperature_celsius, found.temperature_celsius, found.utilization_ratio) == (None, 0.0, 0.0)


def test_what_is_not_on_the_default_page() -> None:
    """Throttling in nanoseconds, the enforced limit before the wanted one, errors of both kinds, NVLink 5."""
    found = gpu(
        row("DEV_POWER_VIOLATION", 2_500_000_000),
        row("DEV_THERMAL_VIOLATION", 0),
        row("DEV_POWER_MGMT_LIMIT", 700),
        row("DEV_ENFORCED_POWER_LIMIT", 650),
        row("DEV_ECC_SBE_AGG_TOTAL", 5),
        row("DEV_ECC_DBE_AGG_TOTAL", 1),
        row("DEV_NVLINK_TX_BYTES_TOTAL", 4e12),
        row("DEV_NVLINK_COUNT_RX_BYTES", 3e12),
        row("DEV_FB_TOTAL", 81559),
    )
    assert found.throttle_seconds == pytest.approx({"power": 2.5, "thermal": 0.0})
    assert (found.power_limit_watts, found.ecc_errors) == (650.0, 6.0)
    assert (found.nvlink_tx_bytes, found.nvlink_rx_bytes) == (4e12, 3e12)
    assert found.memory_total_bytes == 81559 * 2.0**20


def test_a_gpu_without_an_index_goes_by_its_place() -> None:
    found = reading(row("DEV_POWER_USAGE", 1, 'UUID="GPU-a"') + row("DEV_POWER_USAGE", 2, 'UUID="GPU-b"'))
    assert [(one.uuid, one.index) for one in found.gpus] == [("GPU-a", 0), ("GPU-b", 1)]


# -- XID errors -----------------------------------------------------------------------------------


def xids(*pages: str) -> list[dict[str, float]]:
    devices = Devices(DCGM)
    return [dict(one_of(reading(page, devices), "GPU-a").xids) for page in pages]


def newest(*values: int) -> str:
    """A page on which each of these is the newest error of an instance, or of the device if there is only one."""
    if len(values) == 1:
        return row("DEV_XID_ERRORS", values[0], H100, f'err_code="{values[0]}"')
    return "".join(
        row("DEV_XID_ERRORS", value, H100, f'GPU_I_ID="{k}"', f'err_code="{value}"') for k, value in enumerate(values)
    )


def window(**counts: int) -> str:
    rows = "".join(
        f'DCGM_EXP_XID_ERRORS_COUNT{{{H100},window_size_in_ms="300000",xid="{xid[1:]}"}} {count}\n'
        for xid, count in counts.items()
    )
    return rows or f'DCGM_EXP_XID_ERRORS_COUNT{{{H100},window_size_in_ms="300000"}} 0\n'


def test_an_xid_that_stays_counts_once() -> None:
    """The gauge never clears: only its changes are errors, and what it shows at first is from earlier times."""
    pages = [newest(n) for n in (13, 13, 79, 79, 0, 79)]
    assert xids(*pages) == [{"13": 0}, {"13": 0}, *[{"13": 0, "79": 1}] * 3, {"13": 0, "79": 2}]


def test_an_xid_after_none() -> None:
    missing = row("DEV_POWER_USAGE", 1)
    blank = row("DEV_XID_ERRORS", BLANK)
    assert xids(newest(0), newest(48), missing, newest(48), blank, newest(48))[-1] == {"48": 1}


def test_an_xid_of_an_instance_that_was_blank_for_a_moment() -> None:
    both = newest(31, 43)
    one = both.splitlines(keepends=True)[0]
    assert xids(newest(0, 0), both, one, both)[-1] == {"31": 1, "43": 1}


def test_an_xid_on_every_instance_is_one_error() -> None:
    """Instances repeat an error of their device; an error of one of them is that one's."""
    found = xids(newest(0, 0, 0), newest(79, 79, 79), newest(79, 31, 79), newest(79, 31, 31))
    assert found[1:] == [{"79": 1}, {"79": 1, "31": 1}, {"79": 1, "31": 2}]


def test_a_window_of_xids_is_no_counter() -> None:
    """It falls as errors get old; only its rises count. Where there is one, the gauge is not read."""
    pages = [window(x13=2), window(x13=3), newest(13) + window(x13=2), newest(79) + window(x13=2, x79=1), window()]
    assert xids(*pages, window(x79=2)) == [
        {"13": 0},
        {"13": 1},
        {"13": 1},
        {"13": 1, "79": 1},
        {"13": 1, "79": 1},
        {"13": 1, "79": 3},
    ]


def test_a_window_beside_the_gauge() -> None:
    """What a window shows when it is switched on happened earlier; from then on it alone is read."""
    pages = [newest(13), newest(13) + window(x13=2), newest(0) + window(x13=2, x48=1), newest(79) + window(x48=1)]
    assert xids(*pages) == [{"13": 0}, {"13": 0}, {"13": 0, "48": 1}, {"13": 0, "48": 1}]


# -- pages that stand still -----------------------------------------------------------------------


def standing(*readings: tuple[float, float], devices: Devices | None = None) -> list[str]:
    """The errors of readings of one GPU, each at a time and with so many joules."""
    devices = devices or Devices(DCGM)
    return [reading(row("DEV_TOTAL_ENERGY_CONSUMPTION", j * 1000), devices, at).error for at, j in readings]


def test_an_exporter_that_lost_its_engine_is_no_gpu_without_power() -> None:
    """It goes on showing its last values, which would pass for 0 W; at the next change it is a meter again."""
    seen = [(0.0, 1.0), (30.0, 2.0), (330.0, 2.0), (331.0, 2.0), (5000.0, 2.0), (5001.0, 9000.0), (5300.0, 9000.0)]
    assert standing(*seen) == ["", "", "", "stale", "stale", "", ""]


def test_an_exporter_without_joules_may_stand_still() -> None:
    """A card that shows power alone may show the same watts for long."""
    devices = Devices(DCGM)
    assert [reading(row("DEV_POWER_USAGE", 30), devices, at).error for at in (0.0, 1000.0)] == ["", ""]


def test_the_pace_of_the_exporter_is_seen() -> None:
    """Read every 5 s, an exporter that reads every 30 s shows each value six times."""
    devices = Devices(DCGM)
    standing(*((t, float((t + 17) // 30)) for t in range(0, 43, 5)), devices=devices)
    assert devices.refresh_seconds is None  # of one change nobody knows how long it took
    standing(*((t, float((t + 17) // 30)) for t in range(45, 300, 5)), devices=devices)
    assert devices.refresh_seconds == 30.0


# -- pages that are none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "none of the GPUs' series is on it"),
        ('node_cpu_seconds_total{cpu="0"} 1\n', "none of the GPUs' series is on it"),
        ('DCGM_FI_DEV_POWER_USAGE{gpu="0"} 300\n', "no label UUID or uuid or gpu_uuid"),
    ],
)
def test_other_pages_are_refused(text: str, says: str) -> None:
    """They are no reading of no GPUs, and the sentence says what to look at."""
    found = reading(text)
    assert (found.error, found.gpus, found.source) == ("not_dcgm", (), "dcgm")
    assert says in found.detail
    assert "port 9400" in found.detail or "label" in found.detail


def test_all_of_another_page_is_named() -> None:
    page = scraped("x", 1.0, PageParser(None).parse(b"a 1\nb 2\n").series)
    assert Devices(DCGM)(page).detail.startswith("no page of dcgm-exporter (it has a, b)")


def test_a_failed_reading_stays_one() -> None:
    found = Devices(DCGM)(Page("dcgm", 1.0, error="refused", seconds=0.5, detail="no connection"))
    assert found == GpuReading("dcgm", 1.0, "refused", seconds=0.5, detail="no connection")


def test_labels_that_never_repeat_are_forgotten() -> None:
    devices = Devices(DCGM)
    for k in range(11):
        reading("".join(row("DEV_POWER_USAGE", 1, H100, f'pod="p{k}-{n}"') for n in range(1000)), devices)
    assert len(devices._uses) <= 10_001


# -- the file -------------------------------------------------------------------------------------


def test_no_engine_is_called_dcgm() -> None:
    """It says nothing about requests, so that no page of it is ever taken for an engine."""
    assert "dcgm" not in adapters.builtin()
    assert DCGM.source == "dcgm"


def test_every_signal_is_a_field() -> None:
    """What a file may name arrives somewhere."""
    assert set(SIGNALS) - set(PARTS) <= set(Gpu.__struct_fields__)
    assert set(DCGM.signals) <= set(SIGNALS)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(FILE.read_text().replace("power_watts:", "power_whats:"))
    with pytest.raises(AdapterError, match=r"d\.yaml: signals\.power_whats: no such signal"):
        adapters.load_devices(path)


@pytest.mark.parametrize(
    ("model", "profile", "expected"),
    [
        ("NVIDIA A100-SXM4-40GB", "1g.5gb", (1, 1)),
        ("NVIDIA A100-SXM4-40GB", "1g.10gb", (1, 2)),
        ("NVIDIA A100 80GB PCIe", "7g.80gb", (7, 8)),
        ("NVIDIA H100 80GB HBM3", "1g.20gb", (1, 2)),
        ("NVIDIA H100 80GB HBM3", "1g.10gb+me", (1, 1)),
        ("NVIDIA H100 80GB HBM3", "1c.3g.40gb", (3, 4)),
        ("NVIDIA H100 NVL", "2g.24gb", (2, 2)),
        ("NVIDIA H200", "1g.18gb", (1, 1)),
        ("NVIDIA H200", "4g.71gb", (4, 4)),
        ("NVIDIA GH200 480GB", "3g.48gb", (3, 4)),
        ("NVIDIA B200", "1g.45gb", (1, 2)),
        ("NVIDIA GB200", "7g.186gb", (7, 8)),
        ("NVIDIA A30", "1g.6gb", (1, 2)),
        ("NVIDIA A30", "4g.24gb", (4, 8)),
        ("NVIDIA H20", "1g.12gb", (1, 1)),
        ("a model of tomorrow", "3g.500gb", (3, 4)),
        ("a model of tomorrow", "7g.900gb", (7, 8)),
        ("a model of tomorrow", "2g.200gb", (2, 2)),
        ("NVIDIA H100 80GB HBM3", "", (0, 0)),
        ("NVIDIA B200", "1g.5gb", (1, 1)),
    ],
)
def test_slices_of_profiles(model: str, profile: str, expected: tuple[int, int]) -> None:
    """Eighths of the device's memory by its model, where it is known, else what such a profile usually has."""
    assert slices(profile, memory_of(model, DCGM.memory_gigabytes)) == expected
