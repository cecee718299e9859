"""What top draws, as text, and what the keys do; no terminal is needed for either."""

from __future__ import annotations

import re

import pytest
from inferometer.app.screen import COLUMNS, View, clip, fit, lines, money, number
from inferometer.app.top import press
from inferometer.app.watch import address
from inferometer.errors import InferometerError

MADE = {name: {"how": "measured", "why": ""} for name in ("cost", "idle", "goodput", "joules", "tokens")}


def workload(name, how="measured", **numbers):
    made = {**MADE, "cost": {"how": how, "why": ""}}
    return {"name": name, "windows": {"1m": numbers}, "made": made, "engines": [{"up": True}, {"up": False}]}


def board(*workloads, **more):
    return {
        "wall": 1.8e9, "currency": "USD", "windows": ["1m", "5m"], "workloads": workloads, "gpus": [], "sources": [],
        "hints": [], **more,
    }  # fmt: skip


CHEAP = workload("cheap", cost_per_million_all=0.00213, money_per_hour=5.0, goodput_ratio_lower=0.842,
                 goodput_ratio_upper=0.931, tokens_per_second=2809.3)  # fmt: skip
DEAR = workload("dear", "assumed", cost_per_million_all=12.345, money_per_hour=1250.0)
NONE = workload("none")
GPU = {
    "index": 0, "up": True, "workloads": ["chat"], "power_watts": 350.0, "power_limit_watts": 700.0,
    "activity_ratio": 0.25,
}  # fmt: skip


def plain(made, view=None, fault=""):
    return [re.sub(r"\x1b\[\d*m", "", line) for line in lines(made, view or View(), "http://h:1", fault)]


def rows(made, view):
    return [line.split()[0] for line in plain(made, view) if line.startswith(("cheap", "dear", "none"))]


NUMBERS = [
    (None, "–"), (0, "0"), (0.00213, "0.00213"), (0.199, "0.199"), (1.2345, "1.23"), (72.04, "72.0"), (415.4, "415"),
    (2809.3, "2,809"), (-0.5, "-0.500"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_money_has_cents_from_one_on():
    assert [money(value) for value in (None, 0.494, 4.679, 1250)] == ["–", "0.494", "4.68", "1,250.00"]


def test_the_table_says_what_each_workload_costs():
    """Bounds as two numbers, a mark behind what is assumed, a dash for what is not there, engines up of all."""
    text = plain(board(CHEAP, DEAR, NONE))
    assert text[0].startswith("Inferometer http://h:1  as of ")
    assert text[0].endswith("over the last 1m  in USD")
    cheap, dear, none = text[3:6]
    assert cheap.split() == ["cheap", "0.00213", "–", "84.2–93.1", "–", "5.00", "–", "2,809", "–", "1/2"]
    assert dear.split()[1:6:4] == ["12.35*", "1,250.00*"]
    assert none.split()[1:-1] == ["–"] * 8
    assert "* assumed" in text[7]
    assert len({len(line) for line in text[2:6]}) == 1
    assert len(text[2]) <= 80, "the usual terminal is enough"


def test_rows_are_sorted_by_any_column_and_what_has_no_number_comes_last():
    everything = board(DEAR, NONE, CHEAP)
    assert rows(everything, View()) == ["cheap", "dear", "none"]
    assert rows(everything, View(sort=1)) == ["cheap", "dear", "none"]
    assert rows(everything, View(sort=1, descending=True)) == ["dear", "cheap", "none"]
    assert rows(everything, View(sort=0, descending=True)) == ["none", "dear", "cheap"]
    for place in range(len(COLUMNS)):
        assert sorted(rows(everything, View(sort=place))) == ["cheap", "dear", "none"]
        assert re.search(rf"{re.escape(COLUMNS[place].title)}▲", plain(everything, View(sort=place))[2])


def test_gpus_sources_and_hints():
    down = {"source": "http://e/metrics", "up": False, "errors": {"refused": 3}, "detail": ""}
    text = "\n".join(plain(board(gpus=[GPU], sources=[down, {**down, "up": True}], hints=["chat: no price"])))
    assert "  0  █████░░░░░ 350 of 700 W      ██░░░░░░░░  25.0 %  chat" in text
    assert "sources  1 of 2 up" in text
    assert "down     http://e/metrics  refused 3" in text
    assert "missing  chat: no price" in text


def test_a_fault_stands_on_top_and_the_last_numbers_stay():
    text = plain(board(CHEAP), fault="http://h:1 does not answer")
    assert text[1] == "http://h:1 does not answer"
    assert any(line.startswith("cheap") for line in text)


def test_names_cannot_steer_the_terminal():
    assert "\x1b[2J" not in "".join(lines(board(workload("a\x1b[2Jb")), View(), "u"))


def test_frames_have_the_size_of_the_window():
    """Cut to its columns, colours not counted; what does not fit below is announced; the keys are always there."""
    made = lines(board(CHEAP, gpus=[GPU] * 20), View(), "http://h:1")
    for columns, height in ((80, 24), (20, 5), (200, 60), (3, 2)):
        frame = [re.sub(r"\x1b\[\d*m", "", line) for line in fit(made, columns, height, " q quit ")]
        assert len(frame) == height
        assert max(map(len, frame)) <= columns
        assert frame[-1] == " q quit "[:columns]
    assert "more lines" in fit(made, 80, 10, "")[8]


def test_wide_letters_take_two_columns():
    assert clip("日本語", 5) == "日本\x1b[0m"
    assert clip("\x1b[1mab", 2) == "\x1b[1mab"


def test_keys():
    assert press(View(), "\x1b[C") == View(sort=1)
    assert press(View(), "\x1b[D") == View(sort=len(COLUMNS) - 1)
    assert press(View(), ">>r") == View(sort=2, descending=True)
    assert press(View(), "w") == View(window=1)
    assert press(View(), "xyz\x1b[A") == View()


ADDRESSES = [
    ("localhost:10110", "http://localhost:10110"), ("http://h:1/", "http://h:1"), ("https://h/x/metrics", "https://h/x"),
    ("[::1]:5", "http://[::1]:5"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "base"), ADDRESSES)
def test_addresses_as_people_type_them(text, base):
    assert address(text) == base


@pytest.mark.parametrize("text", ["", "ftp://h", "http://h:x", "http://"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InferometerError, match="is no address of an agent; write it like http://localhost:10110"):
        address(text)
