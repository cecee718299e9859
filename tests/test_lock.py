"""requirements/*.txt against pyproject.toml, without a network: every name, version and hash that they should have."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNS = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["grpc"]]
ALL = [*RUNS, *(text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra)]
BUILDS = PROJECT["build-system"]["requires"]
WANTED = {"runtime": RUNS, "dev": ALL, "build": BUILDS}
_PIN = re.compile(r"([a-z0-9.-]+)==([^ ]+)( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+")


def locked(name):
    """Versions by package; every line is one version with its hashes and nothing else."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    lines = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    pins = [_PIN.fullmatch(line) for line in re.sub(r" *\\\n *", " ", lines).split("\n") if line]
    assert all(pins), "a line that is no version with hashes"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins}


@pytest.mark.parametrize("name", WANTED)
def test_what_the_project_asks_for_is_locked(name):
    """After a change of a dependency: make lock."""
    versions = locked(name)
    for text in WANTED[name]:
        asked = Requirement(text)
        assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), f"{text}: make lock"


def test_what_is_locked_needs_nothing_else():
    """By the metadata of the packages that are installed here, where they are the locked ones."""
    versions, looked = locked("runtime"), 0
    for package, version in versions.items():
        here = importlib.metadata.distribution(package)
        if here.version == version:
            looked += 1
            needs = map(Requirement, here.requires or ())
            names = {canonicalize_name(n.name) for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})}
            assert names <= versions.keys(), package
    assert looked, "none of the locked versions is installed: make clean test"


def test_what_runs_is_tested_in_the_same_version():
    runtime, dev = locked("runtime"), locked("dev")
    assert runtime.items() <= dev.items()


def test_the_build_backend_is_the_projects():
    assert (ROOT / "requirements/build.in").read_text().split() == BUILDS


@pytest.mark.parametrize("name", WANTED)
def test_no_lock_names_a_registry(name):
    """Whoever installs says where from."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "//" not in text
    assert "index-url" not in text


def test_the_image_is_built_of_the_lock():
    text = (ROOT / "Dockerfile").read_text()
    installs = [line for line in text.split("\n") if "$pip " in line]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line
