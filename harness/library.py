"""The harness as a library: what `import harness` offers for runs.

A run is a process of its own, the command `harness run`. So a running event loop, a notebook and
its threads neither prevent the run nor disturb what it measures, and the command and the library
cannot differ.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.bench.preflight import run_directory
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario, parse_scenario, validated
from harness.config import shipped_scenarios
from harness.config.toml_text import toml_document, toml_value
from harness.records.errors import HarnessError, InputError, PreflightError, StorageError
from harness.store.run_directory import RUN_FILE, Records, read_records, read_run, require_run

if TYPE_CHECKING:
    from harness.analysis.compare import Comparison
    from harness.analysis.model import Summary
    from harness.workflows.program.loading import AsyncFunction

_REPORT = "report.html"
_CHILD = "HARNESS_RUN_OF_LIBRARY"
"""A variable of the environment of the processes that run for this module."""
_REFUSED = 2
_INTERNAL = HarnessError.exit_code


_WORDS_FOR_CALLERS = (
    (r"--set (\S+)= removes it", r'the setting {"\1": None} removes it'),
    (r"--set (?=\S)", "settings: "),
    (r"(?:--fail-on|--jobs) (?=\S)", lambda found: f"{found[0][2:-1].replace('-', '_')} = "),
    (r"with --out", "with out="),
    (r"add --yes to run it, or --dry-run to see what it would do", "give yes=True to run it"),
    (r"--no-preflight", "`harness run --no-preflight`"),
)
"""What stands in errors for the options of the command; not in commands, between backquotes."""


def worded_for_callers(text: str) -> str:
    """Return the text of an error with the names of arguments instead of options."""
    parts = text.split("`")
    for pattern, words in _WORDS_FOR_CALLERS:
        parts[::2] = [re.sub(pattern, words, part) for part in parts[::2]]
    return "`".join(parts)


@contextmanager
def _errors_for_callers() -> Iterator[None]:
    """Word the errors of the command line for a program that calls the library."""
    try:
        yield
    except HarnessError as error:
        error.args = (worded_for_callers(str(error)),)
        raise


class Result:
    """A run in a directory. Its parts are read when they are first used."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"<Result {str(self.directory)!r}>"

    @cached_property
    def records(self) -> Records:
        """The run and its attempts, calls, workflows and trials. Raises StorageError."""
        return read_records(self.directory)

    @property
    def scenario(self) -> Scenario:
        """The scenario of the run. Raises InputError if this version does not accept it."""
        values = dict(read_run(self.directory).scenario)
        return validated(values, str(self.directory / RUN_FILE), [])

    @cached_property
    def summary(self) -> Summary:
        """Every figure with its interval, and the recommendation. Raises StorageError."""
        from harness.analysis.selection import Dataset
        from harness.analysis.summary import summarise

        return summarise(Dataset.read(self.directory))

    def report(self) -> Path:
        """Return the path of the report, one HTML file; it is made if it does not exist."""
        path = self.directory / _REPORT
        if not path.exists():
            _command(["report", str(self.directory)])
        return path


@_errors_for_callers()
def find_scenario(source: str | Path, settings: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario: a file, or one that comes with the harness, by its name.

    `settings`: values of dotted keys that replace those of the file. Raises InputError.
    """
    return load_scenario(shipped_scenarios.find(str(source)), _overrides(settings))


@_errors_for_callers()
def run_to_result(
    scenario: Scenario | str | Path | AsyncFunction | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    topics: str | Sequence[str] | None = None,
    permits: int | str | Sequence[int | str] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    yes: bool = False,
    **sections: Any,
) -> Result:
    """Run a scenario and return its result; waits until the run has ended.

    `scenario`: as `harness.load_scenario` returns or takes it, or an async function at the top of a
    file: `run(mine, topics=["tides"], permits=[2, 8])`, with `sections` besides. Without it,
    `sections` are the scenario: `run(workflow={"topics": ["tides"]}, sweep={"permits": [2, 8]})`.
    `settings`: values of dotted keys, `{"load.workflows": 20}`. `out`: the run directory, new or
    empty. `jobs`: the number of processes in virtual time. `yes`: run even if it can cost money.
    Raises InputError or PreflightError if the run cannot begin. A run that a budget or an
    interruption ended is returned, or the interruption raised, with what had been recorded.
    """
    if os.environ.get(_CHILD):
        raise InputError(
            "harness.run: the file of the program calls it when it is imported; put the call below "
            "if __name__ == '__main__':"
        )
    if not isinstance(yes, bool):
        raise InputError(f"harness.run: yes = {yes!r}: must be True or False; give one of them")
    overrides = _overrides(settings)
    if callable(scenario):
        sections = _sections_of(scenario, topics, permits, sections)
        scenario = None
    elif topics is not None or permits is not None:
        raise InputError("harness.run: topics and permits go with a function; give settings")
    if (scenario is None) == (not sections):
        raise InputError(
            "harness.run: give either a scenario, or its sections as keywords, such as "
            "workflow={...} and sweep={...}"
        )
    if scenario is None:
        text = toml_document({"name": "run", **sections})
        scenario = parse_scenario(text, "harness.run", overrides)
    elif isinstance(scenario, Scenario):
        if overrides:
            text = toml_document(_plain(scenario))
            scenario = parse_scenario(text, "harness.run", overrides)
    else:
        scenario = find_scenario(scenario, settings)
    directory = run_directory(scenario.name, None if out is None else str(out))
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        file = Path(folder) / f"{scenario.name}.toml"
        file.write_text(toml_document(_plain(scenario)), encoding="utf-8")
        options = ["--yes"] if yes else []
        if jobs is not None:
            options += ["--jobs", str(jobs)]
        _command(["run", str(file), "--out", str(directory), "--quiet", *options])
    return Result(directory)


def _sections_of(
    function: AsyncFunction,
    topics: str | Sequence[str] | None,
    permits: int | str | Sequence[int | str] | None,
    sections: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the sections of a scenario that runs a function, which is found by its file."""
    name = getattr(function, "__qualname__", "")
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file() or not name.isidentifier():
        raise InputError(
            f"harness.run: {name or function!r} is not at the top of a Python file, so that the "
            "process of the run cannot import it; put it there"
        )
    workflow = {"program": f"{Path(file).absolute()}:{name}", **sections.get("workflow", {})}
    if topics is not None:
        workflow["topics"] = [topics] if isinstance(topics, str) else list(topics)
    found = {"name": name.replace("_", "-").strip("-"), **sections, "workflow": workflow}
    if permits is not None:
        every = [permits] if isinstance(permits, int | str) else list(permits)
        found["sweep"] = {"permits": every, **sections.get("sweep", {})}
    return found


def open_run(directory: str | Path) -> Result:
    """Return a run that exists. Raises InputError if the directory contains none."""
    return Result(require_run(str(directory)))


@_errors_for_callers()
def compare_results(
    base: Result | str | Path, new: Result | str | Path, fail_on: str | Sequence[str] = ()
) -> Comparison:
    """Compare two runs of the same workload.

    `fail_on`: a rule as `harness compare` takes it, or several.

    `Comparison.regressions` holds the rules that are broken. Raises InputError.
    """
    from harness.analysis.compare import compare_runs
    from harness.analysis.regressions import parse_rule
    from harness.analysis.selection import Dataset

    texts = [fail_on] if isinstance(fail_on, str) else fail_on
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"harness.compare: fail_on = {fail_on!r}: must be a rule or a list of rules; write "
            'them like ["makespan>+10%"]'
        )
    rules = [parse_rule(text) for text in texts]
    first, second = (
        Dataset.read((one if isinstance(one, Result) else open_run(one)).directory)
        for one in (base, new)
    )
    return compare_runs(first, second, rules)


def _overrides(settings: Mapping[str, Any] | None) -> list[str]:
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        raise InputError(
            f"settings = {settings!r}: must be a dictionary of dotted keys; write it like "
            '{"load.workflows": 20}'
        )
    return [
        f"{key}={'' if value is None else toml_value(value)}" for key, value in settings.items()
    ]


def _plain(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as a file would hold it; texts of files are in it already."""
    values = scenario.as_dict()
    values["workflow"].pop("topics_file", None)
    return values


def _command(arguments: Sequence[str]) -> None:
    """Run a command of the harness in a process of its own.

    Its session is its own, too: Ctrl-C reaches it once, from here, so that it can save its records.
    Raises the error that the command reported.
    """
    package = str(Path(harness.__file__).parents[1])
    places = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(  # noqa: S603 - this package with paths and numbers
        [sys.executable, "-m", "harness", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), _CHILD: "1"},
        start_new_session=True,
    )
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.communicate()
        raise
    lines = [line.removeprefix("harness: ") for line in said.splitlines() if line]
    if process.returncode in (_REFUSED, _INTERNAL):
        error = PreflightError if process.returncode == _REFUSED else StorageError
        raise error(lines[-1] if lines else f"exit code {process.returncode}")
    if process.returncode < 0:
        raise HarnessError(f"the run was ended by signal {-process.returncode}")
    for line in lines:
        print(f"harness: {line}", file=sys.stderr)  # noqa: T201 - a warning of the command
