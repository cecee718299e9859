"""Charts rendered by Helm's own library, as every test here needs them."""

import sys
from pathlib import Path

import pytest
import yaml
from helm_python.chart import Chart

HELM = Path(__file__).parents[1]
sys.path.insert(0, str(HELM))
CI = sorted((HELM / "inferometer/ci").glob("*-values.yaml"))


@pytest.fixture(scope="session")
def chart():
    with Chart.load(HELM / "inferometer") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart):
    """``render(values)``: every object, the text of the notes apart."""

    def rendered(values):
        texts = chart.render(values=values, name="demo", namespace="monitoring")
        notes = next(text for name, text in texts.items() if name.endswith("NOTES.txt"))
        objects = [one for name, text in texts.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text)]
        return [one for one in objects if one], notes

    return rendered


@pytest.fixture(params=CI, ids=lambda path: path.stem.removesuffix("-values"))
def installed(request, render):
    """The objects of each file under ci/."""
    return render(yaml.safe_load(request.param.read_text()))[0]
