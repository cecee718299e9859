"""Joules by state and method, from readings to accounts: formulas §8, gaps, resets, takeovers, hosts, MIG."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics import Policy, ratios
from inferometer.economics.prices import Electricity, Owned
from inferometer.economics.settle import settle
from inferometer.interval import Assumed, Hold, Watch, Watched
from inferometer.model import Domain, Gpu, GpuReading, HostReading, Instance
from readings import Follower, page, watch

T = 1000.0
MINE = {"uuids": "a"}


def gpu(at, uuid="a", source="nvml", **readings):
    """A reading of one GPU: energy in joules, power in watts, activity."""
    return GpuReading(source, at, gpus=(Gpu(uuid, 0, **readings),))


def power(at, watts):
    return gpu(at, power_watts=watts)


def told(*readings, watches=(), assumed=None, interval=5.0, running=0):
    """The follower after these readings, each with a page of an engine at rest beside it."""
    follower = Follower(*(watches or (watch("e", **MINE),)), interval=interval)
    if assumed is not None:
        follower.meter.watch(watches or (watch("e", **MINE),), interval, assumed)
    for reading in readings:
        follower.at(reading.at, reading, page(reading.at, running=running))
    follower.finish(readings[-1].at)
    return follower


def about(joules):
    return pytest.approx(joules, rel=1e-9)


def test_power_is_integrated_and_gaps_are_estimated():
    """G10b: (0 s, 300 W) (10, 500) (20, 400) (80, 400) with gaps over 30 s: 8,500 J measured, 24,000 J estimated."""
    follower = told(power(T, 300), power(T + 10, 500), power(T + 20, 400), power(T + 80, 400))
    by_method = {}
    for (_, _, method), joules in follower.energy().items():
        by_method[method] = by_method.get(method, 0.0) + joules
    assert by_method == {"samples": about(8_500), "estimated": about(24_000)}
    assert follower.total("metered_gpu_seconds") / 80 == about(20 / 80)


def test_a_gap_of_five_minutes():
    """A counter knows what it missed; power samples do not, and say so."""
    counted = told(gpu(T, energy_joules=0.0), gpu(T + 300, energy_joules=90_000.0))
    assert counted.energy() == {("gpu", "unknown", "counter"): 90_000}
    sampled = told(power(T, 300), power(T + 300, 300))
    assert sampled.energy() == {("gpu", "unknown", "estimated"): 90_000}
    assert (counted.total("metered_gpu_seconds"), sampled.total("metered_gpu_seconds")) == (300, 0)


def test_idle_and_active_by_a_configured_floor():
    """G12: 120 W over a minute of 21,600 J: 7,200 J idle, 14,400 J active."""
    follower = told(gpu(T, energy_joules=0.0), gpu(T + 60, energy_joules=21_600.0), assumed=Assumed(idle_watts=120.0))
    assert follower.energy() == {("gpu", "idle", "counter"): 7_200, ("gpu", "active", "counter"): 14_400}


def test_the_floor_is_the_least_power_at_rest_and_what_was_before_stays_unknown():
    """Ten seconds at rest teach the floor; joules of before it was known are never divided afterwards."""
    follower = Follower(watch("e", **MINE), interval=1.0)
    joules = 0.0
    for second in range(20):
        busy = second >= 10
        watts = 300.0 if busy else 100.0
        reading = gpu(T + second, energy_joules=joules, power_watts=watts)
        follower.at(T + second, reading, page(T + second, {"output_tokens": second * busy}, running=4 * busy))
        joules += watts
    assert follower.meter.joules.floors() == {"a": 100.0}
    energy = follower.energy()
    assert energy["gpu", "unknown", "counter"] == about(200.0), "the seconds until the rest had settled"
    assert energy["gpu", "active", "counter"] == about(9 * 200.0)
    assert energy["gpu", "idle", "counter"] == about(17 * 100.0)


def test_a_server_that_works_teaches_no_floor():
    follower = told(*(power(T + n, 50.0) for n in range(20)), interval=1.0, running=1)
    assert follower.meter.joules.floors() == {}


def test_a_gpu_that_does_nothing_rests_though_others_of_its_workload_work():
    """Two engines, of which one waits: its GPU is measured to do nothing, which teaches that GPU's floor alone."""
    follower = Follower(watch("e", "f", uuids="ab"), interval=1.0)
    for n in range(6):
        gpus = (
            Gpu("a", 0, power_watts=300.0, utilization_ratio=0.9),
            Gpu("b", 1, power_watts=80.0, utilization_ratio=0.0),
        )
        both = page(T + n, running=3), page(T + n, engine="f")
        follower.at(T + n, GpuReading("nvml", T + n, gpus=gpus), *both)
    assert follower.meter.joules.floors() == {"b": 80.0}


def test_idle_is_never_more_than_there_was():
    """A floor above what was drawn leaves nothing active, and nothing negative."""
    follower = told(gpu(T, energy_joules=0.0), gpu(T + 10, energy_joules=50.0), assumed=Assumed(idle_watts=70.0))
    assert follower.energy() == {("gpu", "idle", "counter"): 50}


def test_a_page_that_is_shown_twice_is_no_time_without_power():
    """dcgm-exporter repeats a reading for 30 s: the next step covers the whole time, so that idle is not overdrawn."""
    steps = [(0, 0.0), (5, 0.0), (10, 0.0), (15, 0.0), (20, 0.0), (25, 0.0), (30, 6_000.0)]
    follower = told(
        *(gpu(T + at, energy_joules=joules, source="dcgm") for at, joules in steps), assumed=Assumed(idle_watts=70.0)
    )
    assert follower.energy() == {("gpu", "idle", "counter"): 2_100, ("gpu", "active", "counter"): 3_900}


def test_a_reset_is_a_lower_bound_and_counted():
    follower = told(*(gpu(T + n, energy_joules=joules) for n, joules in enumerate((500.0, 30.0, 50.0))))
    assert follower.total("joules") == 50
    entries = [settle(interval, Policy("w")) for interval in follower.given]
    assert sum(entry.amounts.get(("inferometer_resets_total", ("nvml",)), 0.0) for entry in entries) == 1


def test_a_step_that_no_gpu_can_draw_counts_for_nothing():
    follower = told(*(gpu(T + n, energy_joules=joules) for n, joules in enumerate((500.0, 1e15, 1e15 + 7))))
    assert follower.total("joules") == 7


def test_a_gpu_that_is_lost_and_comes_back():
    """While it is down it gives nothing; its counter knows what happened meanwhile."""
    lost = GpuReading("nvml", T + 5, gpus=(Gpu("a", 0, up=False),))
    follower = told(gpu(T, energy_joules=100.0), lost, gpu(T + 10, energy_joules=900.0))
    assert follower.total("joules") == 800


def test_two_sources_of_one_counter_count_once():
    """NVML counts; when it falls silent dcgm-exporter goes on from there, an older page of which is no reset."""
    nvml = [gpu(T + n, energy_joules=100.0 * n) for n in range(4)]
    dcgm = [gpu(T + n + 0.5, source="dcgm", energy_joules=100.0 * max(0, n - 2)) for n in range(100)]
    readings = sorted([*nvml, *dcgm], key=lambda reading: reading.at)
    follower = told(*readings, interval=1.0)
    assert follower.total("joules") == about(9_700)
    back = told(*readings, gpu(T + 101, energy_joules=10_100.0), interval=1.0)
    assert back.total("joules") == about(10_100)


def test_the_counter_beside_the_samples():
    """A minute of 360 W by the counter and 300 W by the samples is a ratio of 1.2; a gap of samples says nothing."""
    steps = [gpu(T + n, energy_joules=360.0 * n, power_watts=300.0) for n in range(62)]
    assert told(*steps).meter.joules.consistency() == {"a": about(1.2)}
    assert told(*steps[:30]).meter.joules.consistency() == {}


def test_a_counter_that_is_gone_for_good_gives_way_to_samples():
    """For a minute it is waited for, since it knows what it missed; then power counts, and it starts anew later."""
    readings = [gpu(T, energy_joules=5.0, power_watts=300.0), *(power(T + 10 * n, 300.0) for n in range(1, 21))]
    follower = told(*readings, gpu(T + 210, energy_joules=900.0, power_watts=300.0))
    assert {method: joules for (_, _, method), joules in follower.energy().items()} == {"samples": about(300.0 * 140)}


def test_a_configured_floor_is_not_learned():
    """What was measured at rest holds again once the configured figure is taken out."""
    follower = told(*(power(T + n, 140.0) for n in range(6)), interval=1.0, assumed=Assumed(idle_watts=50.0))
    assert follower.meter.joules.floors(50.0) == {"a": 50.0}
    assert follower.meter.joules.floors() == {"a": 140.0}


def test_what_a_gpu_did_long_ago_says_nothing_of_now():
    follower = Follower(Watch("w", (), 1.0, (Hold("a", 1.0),)), interval=1.0)
    follower.at(T, GpuReading("nvml", T, gpus=(Gpu("a", 0, utilization_ratio=0.9),)))
    states = [interval.state for n in range(1, 21) for interval in follower.at(T + n)]
    assert states == ["busy"] * 10 + ["unknown"] * 10


def test_without_a_reading_in_the_window_there_are_no_watts():
    """Accounts that stood still because nothing was read are not zero joules per token."""
    grown = {
        ("inferometer_energy_joules_total", ("w", "gpu", "active", "counter")): 0.0,
        ("inferometer_metered_gpu_seconds_total", ("w",)): 0.0,
        ("inferometer_gpu_seconds_total", ("w", "busy")): 60.0,
        ("inferometer_tokens_total", ("w", "m", "output")): 100.0,
    }
    energy = {name for name, _ in ratios("w", 60.0, 60.0, grown) if "energy" in name or "watts" in name}
    assert energy == {"inferometer_energy_coverage_ratio"}


def test_metered_power_of_gpus_that_others_pay_for_is_charged():
    """A workload counts GPUs that it does not name: their joules are nobody's, and the meter's bill is nobody's too."""
    nobody = Watch("w", (), 0.0, (Hold("a", 1.0),))
    follower = told(gpu(T, energy_joules=0.0), gpu(T + 10, energy_joules=3.6e5), watches=(nobody,))
    policy = Policy("w", Owned(server=100, gpus=1, years=1, metered=True), Electricity(0.5, 1.2), pue=1.2)
    for metric in ("inferometer_cost_total", "inferometer_token_cost_total"):
        amounts = [settle(interval, policy).amounts.items() for interval in follower.given]
        assert sum(v for one in amounts for (name, _), v in one if name == metric) == about(0.06)


def test_a_machine_that_was_started_again_began_its_counters_anew():
    """After the agent's absence a counter of the host that fell is no wrap: it would invent a whole range."""
    follower = Follower(watch("e"))
    follower.at(T, host(T, 900.0))
    follower.at(T + 5, host(T + 5, 950.0), page(T + 5))
    later = follower.restarted(watch("e"))
    later.at(T + 600, host(T + 600, 30.0), page(T + 600))
    later.at(T + 605, host(T + 605, 10.0), page(T + 605))
    assert (follower.total("joules"), later.total("joules")) == (50, 30 + 980)


def test_a_clock_that_is_set_back_while_the_agent_is_away_takes_no_joules():
    """Ten minutes of 700 W are more than any GPU draws in no time at all."""
    first = Follower(watch("e", uuids="a"))
    first.at(T)
    first.at(T + 5, gpu(T + 5, energy_joules=1_000.0))
    second = first.restarted(watch("e", uuids="a"), ahead=-3600)
    second.at(T + 600, gpu(T + 600, energy_joules=421_000.0))
    second.at(T + 605, page(T + 605))
    assert second.total("joules") == 420_000


def test_joules_that_wait_stay_with_the_workload_that_used_them():
    """An engine moves to another workload between a reading of its GPU and its next page."""
    follower = Follower(watch("e", workload="v", uuids="a"))
    follower.at(T, gpu(T, energy_joules=0.0), page(T))
    follower.at(T + 4, gpu(T + 4, energy_joules=1_000.0))
    follower.meter.watch([watch("e", workload="w", uuids="a")], 5.0)
    follower.at(T + 5, gpu(T + 5, energy_joules=1_500.0), page(T + 5))
    assert [follower.total("joules", workload=name) for name in "vw"] == [1_000, 500]


def test_a_part_of_the_host_is_no_floor_of_the_whole():
    """One counter is missing for once, while everything rests."""

    def reading(at, package, memory=None):
        domains = (Domain("package-0", package), *(() if memory is None else (Domain("dram-0", memory),)))
        return HostReading("rapl", at, domains=domains)

    steps = [reading(T + n, 100.0 * n, 100.0 * n) for n in range(6)]
    whole = told(*steps, interval=1.0).meter.joules.host_floor.watts
    part = told(*steps, reading(T + 6, 600.0), interval=1.0).meter.joules.host_floor.watts
    assert (whole, part) == (200.0, 200.0)


def mig(at, joules, *activities):
    """One GPU cut into 3g, 2g and 1g."""
    cut = zip("xyz", (3, 2, 1), (4, 2, 1), activities, strict=True)
    instances = tuple(Instance(n, i, "", c, m, activity_ratio=a) for i, (n, c, m, a) in enumerate(cut))
    return GpuReading("dcgm", at, gpus=(Gpu("a", 0, energy_joules=joules, instances=instances),))


SLICES = {"x": 1 / 2, "y": 2 / 7, "z": 1 / 7}
CUT = (
    Watch("v", (Watched("e", 0.5),), holds=(Hold("a", 1 / 2, "x", 1.0, SLICES, "mig"),)),
    Watch("w", (Watched("f", 2 / 7),), holds=(Hold("a", 2 / 7, "y", 1.0, SLICES, "mig"),)),
    Watch(
        "(unattributed)",
        (),
        3 / 14,
        holds=(Hold("a", 1 / 7, "z", 1.0, SLICES, "none"), Hold("a", 1 / 14, slices=SLICES, method="none")),
    ),
)


@pytest.mark.parametrize(
    ("activities", "active"),
    [
        pytest.param((0.6, 0.3, 0.0), {"v": 0.3, "w": 0.3 * 2 / 7, "(unattributed)": 0.0}, id="by activity"),
        pytest.param((None, None, None), {"v": 7, "w": 4, "(unattributed)": 2}, id="by slices"),
        pytest.param((0.0, 0.0, 0.0), {"v": 7, "w": 4, "(unattributed)": 2}, id="nothing measured, by slices"),
    ],
)
def test_a_gpu_that_is_cut_is_measured_once_and_adds_up(activities, active):
    """Active joules by activity or slices, idle ones by slices; the sum is the device's to the last joule."""
    follower = told(mig(T, 0.0, *activities), mig(T + 10, 3_000.0, *activities), watches=CUT, assumed=Assumed(70.0))
    found = {name: follower.energy(name) for name in active}
    weight = 2_300 / sum(active.values())
    fractions = {"v": 1 / 2, "w": 2 / 7, "(unattributed)": 3 / 14}
    for name, load in active.items():
        assert found[name].get(("gpu", "active", "counter"), 0.0) == pytest.approx(load * weight)
        assert found[name]["gpu", "idle", "counter"] == about(700 * fractions[name])
    assert follower.total("joules") == about(3_000)


def test_a_workload_without_engines_is_idle_or_busy_as_its_gpus_are():
    def spent(*ratios):
        holds = tuple(Hold(uuid, 1.0) for uuid in "abcd"[: len(ratios)])
        follower = Follower(Watch("w", (), float(len(ratios)), holds), interval=1.0)
        for n in range(3):
            gpus = tuple(Gpu(u, i, utilization_ratio=r) for i, (u, r) in enumerate(zip("abcd", ratios, strict=False)))
            follower.at(T + n, GpuReading("nvml", T + n, gpus=gpus))
        last = settle(follower.given[-1], Policy("w")).amounts
        return {labels[2]: s for (name, labels), s in last.items() if name == "inferometer_gpu_seconds_total" and s}

    assert spent(0.0) == {"idle": 1}
    assert spent(0.5, 0.0, 0.0, 0.0) == {"busy": 1, "idle": 3}
    assert spent(None) == {"unknown": 1}


def host(at, package=0.0, memory=0.0, error=""):
    domains = (Domain("package-0", package, 1_000.0), Domain("dram-0", memory, 1_000.0)) if not error else ()
    return HostReading("rapl", at, error, domains)


def test_the_hosts_counters_wrap_and_are_added():
    follower = told(host(T, 900.0, 10.0), host(T + 5, 300.0, 40.0), host(T + 10, error="no_permission"))
    assert follower.energy() == {("host", "unknown", "counter"): 430}


def test_the_host_goes_by_the_gpus_that_are_held():
    watches = (watch("e", workload="v", held=3.0), watch("f", workload="w", held=1.0))
    follower = told(host(T, 0.0), host(T + 5, 400.0), watches=watches)
    assert [follower.total("joules", workload=name) for name in "vw"] == [300, 100]


def test_configured_watts_of_the_host_are_estimated_and_not_charged():
    """Nobody metered them: they are in the joules per token of IT and facility, not on the bill."""
    follower = told(gpu(T, energy_joules=0.0), gpu(T + 10, energy_joules=3.6e6 / 1e3), assumed=Assumed(None, 200.0))
    assert follower.energy() == {("gpu", "unknown", "counter"): 3_600, ("host", "unknown", "estimated"): 2_000}
    owned = Policy("w", Owned(server=0, gpus=1, years=1, metered=True), Electricity(1.0, 1.5), pue=1.5)
    money = sum(
        amount
        for interval in follower.given
        for (name, _), amount in settle(interval, owned).amounts.items()
        if name == "inferometer_cost_total"
    )
    assert money == about(3_600 / 3.6e6 * 1.5)


def test_joules_per_token_at_three_boundaries():
    """G11: a minute, 21,600 J of GPUs and 200 W of host, PUE 1.3, 360 k in and 120 k out."""
    readings = (gpu(T + 20 * n, energy_joules=7_200.0 * n) for n in range(4))
    follower = told(*readings, assumed=Assumed(120.0, 200.0))
    grown = {
        ("inferometer_tokens_total", ("w", "m", "input_uncached")): 360e3,
        ("inferometer_tokens_total", ("w", "m", "output")): 120e3,
    }
    policy = Policy("w", pue=1.3, carbon_grams_per_kwh=400.0, water_liters_per_kwh=1.8)
    for interval in follower.given:
        for account, amount in settle(interval, policy).amounts.items():
            if any(word in account[0] for word in ("joules", "carbon", "water")):
                grown[account] = grown.get(account, 0.0) + amount
    found = ratios("w", 60.0, 60.0, grown)
    expected = {"gpu": 21_600, "it": 33_600, "facility": 43_680}
    for boundary, joules in expected.items():
        name = "inferometer_energy_per_token_joules"
        assert found[name, ("w", "output", boundary, "1m")] == about(joules / 120e3)
        assert found[name, ("w", "all", boundary, "1m")] == about(joules / 480e3)
    assert grown["inferometer_carbon_grams_total", ("w",)] == about(43_680 / 3.6e6 * 400)
    assert grown["inferometer_water_liters_total", ("w",)] == about(33_600 / 3.6e6 * 1.8)
    joules = sum(amount for (name, _), amount in grown.items() if name == "inferometer_energy_joules_total")
    assert joules == about(43_680), "the components are disjoint"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((0, 0, 7, 900, -1)), st.one_of(st.none(), st.floats(0, 1))), max_size=30),
    st.booleans(),
)
def test_every_joule_of_a_shared_gpu_once(steps, cut):
    """However a counter moves and instances work, the workloads' joules are the device's, none is negative."""
    sharing = (watch("e", workload="v", uuids="a", share=0.3), Watch("w", (), 0.7, (Hold("a", 0.7),)))
    follower = Follower(*(CUT if cut else sharing), interval=1.0)
    joules = expected = 0.0
    follower.meter.watch(CUT if cut else sharing, 1.0, Assumed(70.0))
    for n, (step, activity) in enumerate(steps):
        joules, before = (0.0 if step < 0 else joules + step), joules
        expected += (joules if joules < before else joules - before) if n else 0.0
        follower.at(T + n, mig(T + n, joules, activity, 0.5, 0.1), page(T + n))
    follower.finish(T + len(steps))
    assert follower.total("joules") == pytest.approx(expected, rel=1e-9)
    assert all(amount >= 0 for interval in follower.given for amount in interval.energy.values())
