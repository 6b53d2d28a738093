"""The pytest plugin: the mark `harness`, and the fixtures `harness_run` and `harness_result`.

The harness itself is imported when a test uses one of these.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.testing.checked_run import CheckedRun, Runner

_MARK = "harness"
_FOLDER = "harness_runs"
_FAILED = pytest.StashKey[bool]()
_KEPT = pytest.StashKey[list[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the folder in which runs are kept."""
    words = "keep the runs of tests in this folder; by default, those of failed tests, in tmp"
    parser.getgroup("harness").addoption("--harness-runs", metavar="DIR", help=words)
    parser.addini(_FOLDER, words)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers",
        f"{_MARK}(scenario, settings=None, **options): run a scenario before the test; "
        "the fixture harness_result is its run",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a marked test run its scenario also if it does not use the result."""
    names = getattr(item, "fixturenames", None)
    if isinstance(names, list) and item.get_closest_marker(_MARK) and "harness_result" not in names:
        names.append("harness_result")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a failure, and say where its runs are."""
    report = yield
    if report.failed and item.stash.get(_KEPT, None):
        item.stash[_FAILED] = True
        lines = "\n".join(f"kept in {path}" for path in item.stash[_KEPT])
        report.sections.append(("runs of the harness", lines))
    return report


@pytest.fixture
def harness_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """Return a function that runs a scenario or a workflow function, as `harness.run` does.

    It returns a `CheckedRun`. A run of a test that passes is removed, unless `--harness-runs` names
    a folder. Paths are relative to the file of the test, or to the root folder.
    """
    from harness.library import run_to_result
    from harness.records.errors import HarnessError
    from harness.testing.checked_run import CheckedRun

    item, folder = request.node, _folder(request.config)
    made: list[Path] = item.stash.setdefault(_KEPT, [])

    def run(scenario: Any = None, settings: Any = None, **options: Any) -> CheckedRun:
        __tracebackhide__ = True
        directory = _new_directory(folder, item.nodeid, tmp_path_factory)
        made.append(directory)
        if _worker(request.config):
            options.setdefault("jobs", 1)
        source = _found(scenario, item.path, request.config.rootpath)
        try:
            result = run_to_result(source, settings, out=directory, **options)
        except HarnessError as error:
            raise error.with_traceback(None) from None  # the message says what to do
        return CheckedRun(result, f"the run is kept in {directory}")

    yield run
    if folder is None and not item.stash.get(_FAILED, False):
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def harness_result(request: pytest.FixtureRequest, harness_run: Runner) -> CheckedRun:
    """Return the run of the scenario in `@pytest.mark.harness`."""
    mark = request.node.get_closest_marker(_MARK)
    if mark is None or not mark.args:
        pytest.fail(
            'harness_result needs @pytest.mark.harness("scenario.toml"); or use harness_run',
            pytrace=False,
        )
    return harness_run(*mark.args, **mark.kwargs)


def _folder(config: pytest.Config) -> Path | None:
    """Return the folder in which all runs are kept; None if they are in tmp."""
    named = config.getoption("--harness-runs") or config.getini(_FOLDER)
    if not named:
        return None
    return Path(config.rootpath, str(named), _worker(config)).absolute()


def _worker(config: pytest.Config) -> str:
    """Return the name of the worker of pytest-xdist that this process is; empty for none."""
    return str(getattr(config, "workerinput", {}).get("workerid", ""))


def _new_directory(folder: Path | None, test: str, tmp: pytest.TempPathFactory) -> Path:
    """Make a directory for a run of a test, with a number if there is one already."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", test.rpartition("::")[2]).strip("-.")[:60] or "run"
    if folder is None:
        return tmp.mktemp(f"harness-{name}-")
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        directory = folder / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory


def _found(scenario: Any, test: Path, root: Path) -> Any:
    """Return a scenario, as a path where it is a file beside the test or below the root."""
    if not isinstance(scenario, str | os.PathLike):
        return scenario
    places = (test.parent / scenario, root / scenario)
    return next((str(place) for place in places if place.is_file()), scenario)
