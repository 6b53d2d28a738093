"""A command imports only what it needs, so that it starts fast; see `benchmarks.start`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import sys
from pathlib import Path

before = set(sys.modules)
from harness.cli.main import main

try:
    code = main(sys.argv[2:])
except SystemExit as error:
    code = error.code
imported = sorted(name for name in sys.modules if name not in before)
Path(sys.argv[1]).write_text("\\n".join([str(code), *imported]))
"""

SCENARIO = """
name = "first-request"
[workflow]
topics = "a topic"
[endpoint]
time_scale = 0.001
faults = [{ kind = "unauthorized", probability = 1.0 }]
"""
"""Its first answer ends the run, without any view."""

CONFIGURATION = {
    "annotated_types",
    "msgspec",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
"""The packages that reading a scenario needs."""

TERMINAL = {"markdown_it", "mdurl", "pygments", "rich"}
"""The packages that the live view of a run needs."""


def imported_by(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """Run a command in a new process; return its exit code and the modules that it imported."""
    said = folder / "imported.txt"
    process = [sys.executable, "-c", COMMAND, str(said), *arguments]
    subprocess.run(process, check=True, capture_output=True, cwd=folder, timeout=120)
    code, *modules = said.read_text().splitlines()
    return int(code), set(modules)


def packages(modules: set[str]) -> set[str]:
    """Return the packages of `modules` that are neither ours nor in the standard library."""
    names = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"harness"}
    return {name for name in names if not name.startswith("_")}


def test_help_imports_no_package(tmp_path: Path) -> None:
    code, modules = imported_by(tmp_path, "--help")
    assert code == 0
    assert packages(modules) == set()
    assert {name for name in modules if name.startswith("harness")} == {
        "harness",
        "harness.cli",
        "harness.cli.end_signals",
        "harness.cli.arguments",
        "harness.cli.parser",
        "harness.cli.main",
        "harness.records",
        "harness.records.errors",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("--set", "load.worfklows=3"), 2), (("--dry-run",), 0)],
    ids=["rejected", "dry-run"],
)
def test_no_package_of_a_run_is_imported_before_it(
    tmp_path: Path, arguments: tuple[str, ...], expected: int
) -> None:
    code, modules = imported_by(tmp_path, "run", "quickstart", *arguments)
    assert code == expected
    assert packages(modules) <= CONFIGURATION
    assert modules.isdisjoint({"asyncio", "concurrent.futures", "logging", "multiprocessing"})


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(("--set", "endpoint.time=virtual"), set()), ((), {"aiohttp", "openai", "uvloop"})],
    ids=["virtual", "real"],
)
def test_no_view_is_imported_before_the_end_of_a_run(
    tmp_path: Path, arguments: tuple[str, ...], needed: set[str]
) -> None:
    (tmp_path / "first.toml").write_text(SCENARIO)
    code, modules = imported_by(tmp_path, "run", "first.toml", "--out", "run", *arguments)
    assert code == 2
    found = packages(modules)
    assert found >= needed
    assert found.isdisjoint({"google", "jinja2", "matplotlib", "opentelemetry", "scipy"})
    if needed:
        assert "numpy" not in found
    else:
        assert found <= CONFIGURATION | TERMINAL | {"numpy"}


MEASURED = """
import sys
from harness.bench import measured_share
from harness.cli.main import main

measure = measured_share.until_stopped

def noting(*arguments):
    before = set(sys.modules)
    try:
        return measure(*arguments)
    finally:
        print("imported:", *sorted(set(sys.modules) - before))

measured_share.until_stopped = noting
main(sys.argv[1:])
"""


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_nothing_is_imported_while_a_trial_is_measured(tmp_path: Path, mode: str) -> None:
    (tmp_path / "first.toml").write_text(SCENARIO)
    arguments = ["run", "first.toml", "--out", "run", "--quiet", "--set", f"sweep.mode={mode}"]
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert process.stdout.split() == ["imported:"]


def test_the_package_itself_imports_nothing_before_it_is_used() -> None:
    code = (
        "import sys, harness\n"
        "harness.policies, harness.workflows\n"
        "print(*sorted(m for m in sys.modules if m.startswith('harness')))\n"
        "print(sorted({'openai', 'pydantic', 'httpx2', 'asyncio'} & set(sys.modules)))\n"
        "for name in harness.__all__:\n    getattr(harness, name)\n"
        "for name in dir(harness.workflows):\n    getattr(harness.workflows, name)\n"
        "try:\n    harness.AsyncOpenAi\nexcept AttributeError as error:\n    print(error)\n"
    )
    process = [sys.executable, "-c", code]
    said = subprocess.run(process, check=True, capture_output=True, text=True, timeout=120).stdout
    assert said.splitlines() == [
        "harness harness.policies harness.workflows",
        "[]",
        "module 'harness' has no attribute 'AsyncOpenAi'",
    ]
