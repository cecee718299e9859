"""The wheel holds the package and its data, nothing else, and runs from where it is unpacked."""

from __future__ import annotations

import email
import os
import shutil
import site
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from inferometer import __version__

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
DATA = ("adapters/*.yaml", "exposition/page/*", "py.typed")
SETUPTOOLS = 77  # the first that takes an SPDX licence


def run(*command, **environ):
    """A command in a clean environment; its output, with errors in it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("INFEROMETER_", "PYTHON"))}
    done = subprocess.run(
        command, env=clean | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def has_setuptools():
    try:
        return int(version("setuptools").split(".")[0]) >= SETUPTOOLS
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the sources: a build leaves its own folders beside them, and old ones end up in it.

    Without a setuptools that can do it pip fetches one, for which it needs the network.
    """
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    shutil.copytree(ROOT / "agent", sources / "agent", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in SOURCES:
        shutil.copy(ROOT / name, sources)
    how = ["--no-build-isolation"] if has_setuptools() else []
    quiet = ["--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "wheel", str(sources), "--no-deps", *how, *quiet, "--wheel-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel):
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def dist_info(wheel, names):
    """Text files of the wheel's .dist-info folder, by name."""
    with zipfile.ZipFile(wheel) as archive:
        wanted = [n for n in names if ".dist-info/" in n]
        return {n.partition(".dist-info/")[2]: archive.read(n).decode() for n in wanted}


def test_one_name_is_installed(names):
    """A second top-level name, `agent` above all, would collide with other people's packages."""
    assert {name.split("/")[0] for name in names} == {"inferometer", f"inferometer-{__version__}.dist-info"}


def test_every_module_and_data_file_is_in(names):
    package = ROOT / "agent" / "inferometer"
    files = [path for pattern in ("**/*.py", *DATA) for path in package.glob(pattern)]
    expected = {f"inferometer/{path.relative_to(package).as_posix()}" for path in files}
    assert {name for name in names if name.startswith("inferometer/")} == expected
    for pattern in DATA:
        assert any(Path(name).match(f"inferometer/{pattern}") for name in names), pattern


def test_metadata(dist_info):
    """What a package index and a licence scanner read."""
    metadata = email.message_from_string(dist_info["METADATA"])
    assert metadata["Name"] == "inferometer"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata.get_payload().strip(), "README.md is the long description"
    assert dist_info["licenses/LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_console_script(dist_info):
    assert "inferometer = inferometer.cli:main" in dist_info["entry_points.txt"]


@pytest.mark.parametrize("command", [("--version",), ("--help",)])
def test_runs_from_the_wheel(wheel, tmp_path, command):
    """The unpacked wheel works by itself, not because the sources are near; -S leaves editable installs out."""
    run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path))
    paths = os.pathsep.join([str(tmp_path), *site.getsitepackages()])
    code = "import inferometer; print(inferometer.__file__)"
    assert run(sys.executable, "-S", "-P", "-c", code, PYTHONPATH=paths).startswith(str(tmp_path))
    assert "inferometer" in run(sys.executable, "-S", "-P", "-m", "inferometer", *command, PYTHONPATH=paths)


def test_adapters_and_page_are_found_from_the_wheel(wheel, tmp_path):
    """Data files are looked up beside the code, wherever that is."""
    run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path))
    paths = os.pathsep.join([str(tmp_path), *site.getsitepackages()])
    code = "from inferometer import adapters; print(*adapters.builtin(), adapters.dcgm().source)"
    found = run(sys.executable, "-S", "-P", "-c", code, PYTHONPATH=paths).split()
    assert sorted(found) == sorted(path.stem for path in (ROOT / "agent/inferometer/adapters").glob("*.yaml"))
