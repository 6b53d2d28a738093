"""The wheel has everything: installed into an empty environment, it runs from any folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import harness

pytestmark = pytest.mark.more

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def done(*command: str | Path, folder: Path) -> str:
    """Run a command without this checkout on its path, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True,
        timeout=500,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done(sys.executable, *build, folder=ROOT)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone; what it depends on comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv, uv = folder / "venv", Path(sys.executable).parent / "uv"
    cache = ("--cache-dir", folder / "cache", "--offline")
    done(uv, "venv", venv, "--python", sys.executable, *cache, folder=folder)
    python = venv / "bin" / "python"
    done(uv, "pip", "install", "--no-deps", "--python", python, wheel, *cache, folder=folder)
    where = done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                 folder=folder).strip()  # fmt: skip
    (Path(where) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return venv / "bin"


def test_its_name_version_and_requirements_are_those_of_the_project(wheel: Path) -> None:
    assert wheel.name == f"fanout_harness-{harness.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if one.endswith("dist-info/METADATA")]
        said = Parser().parsestr(archive.read(name).decode())
    assert said["Name"] == PROJECT["name"] == "fanout-harness"
    assert said["Version"] == PROJECT["version"] == harness.__version__
    needed = [one for one in said.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert len(needed) == len(PROJECT["dependencies"])


def test_it_contains_every_file_of_the_package_and_the_scenarios(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "harness", "scenarios"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    ).stdout.split()  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    expected = {
        f"harness/{name}" if name.startswith("scenarios/") else name
        for name in tracked or ["harness/py.typed", "scenarios/quickstart.toml"]
    }
    assert expected <= packed
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in packed)


def test_the_quickstart_runs_from_any_folder(binaries: Path, tmp_path: Path) -> None:
    command = binaries / "harness"
    assert done(command, "--version", folder=tmp_path) == f"harness {harness.__version__}\n"
    assert "deepseek-reasoner" in done(command, "serve", "--list", folder=tmp_path)
    where = done(
        binaries / "python", "-c", "import harness; print(harness.__file__)", folder=tmp_path
    )
    assert Path(where.strip()).is_relative_to(binaries.parent)
    done(command, "run", "quickstart", "--set", "sweep.repeats=2", "--out", "run", folder=tmp_path)
    assert (tmp_path / "run" / "report.html").exists()


def test_three_commands_answer_for_an_endpoint_of_ones_own(binaries: Path, tmp_path: Path) -> None:
    """`harness serve`, `harness init` and `harness run`, and no editor."""
    command = binaries / "harness"
    serving = [str(command), "serve", "--port", "0", "--time-scale", "0.002", "--json",
               "--until-stdin-closes"]  # fmt: skip
    with subprocess.Popen(
        serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["base_url"]
        own = ("--endpoint", url, "--model", "deepseek-reasoner")
        said = done(command, "init", *own, folder=tmp_path)
        words = shlex.split(said.partition("Next: harness ")[2])
        answer = done(command, *words, folder=tmp_path)
        server.stdin.close()
    assert "mine: 3 settings, 2 repeats, 24 workflows. SIMULATED by the endpoint" in answer


def test_the_suite_of_another_project_has_the_plugin(binaries: Path, tmp_path: Path) -> None:
    scenario = (ROOT / "scenarios" / "semaphore-sweep.toml").read_text()
    (tmp_path / "load.toml").write_text(scenario)
    few = {"load.workflows": 2, "sweep.permits": [4], "sweep.repeats": 2}
    (tmp_path / "test_load.py").write_text(
        "import pytest\n\n\n"
        f'@pytest.mark.harness("load.toml", {few!r})\n'
        "def test_load(harness_result):\n"
        '    harness_result.assert_at_least("attempts.total", 1)\n'
    )
    for workers in ((), ("-n", "2")):
        command = ("-m", "pytest", "--strict-markers", "-p", "no:asyncio", *workers)
        assert "1 passed" in done(binaries / "python", *command, folder=tmp_path)
