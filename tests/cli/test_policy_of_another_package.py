"""A policy of another package is as complete as a built-in one, in every mode and every view."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.records.errors import InputError
from harness.store.run_directory import Records, read_records
from tests.cli.answering import copied
from tests.cli.packages import installed

PACKAGE = '''
"""A pause of one length until so many seconds of the call are over, and a cap on retries."""
from random import Random
from typing import ClassVar, Literal, NamedTuple

from harness.config.tables import Duration
from harness.policies.layers import Inside
from harness.policies.protocol import GO, Admission, Asking, Ended, RetryVerdict
from harness.policies.retry import Failure, refused, within
from harness.policies.section import BackoffSection, PolicyContext, WrapperSection
from harness.records.schema import Decision, PolicyCode, give_up


class StubbornSection(BackoffSection):
    kind: Literal["stubborn"]
    tries: int = 7
    rest: Duration = 2.0

    @property
    def most_attempts(self) -> int:
        return self.tries

    def retry(self, context: PolicyContext) -> "Stubborn":
        return Stubborn(self.tries, context.nanoseconds(self.rest))

    def code(self) -> PolicyCode:
        return PolicyCode(attempts=self.tries, pause=(f"pause = {self.rest:g}  # stubborn",))


class Stubborn(NamedTuple):
    tries: int
    rest: int

    def decide(self, failure: Failure, random: Random) -> Decision:
        return refused(failure, self.tries) or within(failure, self.rest, "policy")


class CapSection(WrapperSection):
    once: ClassVar[bool] = True
    kind: Literal["retry-cap"]
    most: int = 5

    def layer(self, context: PolicyContext) -> "CapLayer":
        return CapLayer(self.most)


class CapLayer:
    hedge = None

    def __init__(self, most: int) -> None:
        self.left = most

    def admit(self, asking: Asking) -> Admission:
        return GO

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        verdict = inside()
        if verdict.decision is None or verdict.decision.retry_in is None:
            return verdict
        self.left -= 1
        return verdict if self.left >= 0 else RetryVerdict(give_up("retry-cap"))
'''
POINTS = {
    "harness.policies": "stubborn = stranger:StubbornSection\nretry-cap = stranger:CapSection\n"
}
SCENARIO = """
name = "strange"
seed = 5
workflow.topics = ["tides"]
workflow.sub_questions = 3

[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 40 }
time_scale = 0.001
faults = [{ kind = "unavailable", probability = 0.5 }]

[load]
workflows = 3
in_flight = 3

[timeouts]
idle = "1h"
call = "5h"

[sweep]
mode = ["sync", "threads", "async"]
permits = 4
retry = ["alone", "inside", "capped"]

[retry.alone]
kind = "stubborn"
rest = "3s"
[retry.inside]
kind = "stack"
layers = ["half", "alone"]
[retry.half]
kind = "retry-budget"
ratio = 1.0
[retry.capped]
kind = "stack"
layers = ["cap", "alone"]
[retry.cap]
kind = "retry-cap"
most = 2
"""
VIRTUAL = ["--set", "endpoint.time=virtual", "--set", 'sweep.mode=["sync", "async"]']


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder where the package is installed while the test runs."""
    folder = tmp_path_factory.mktemp("packages")
    with installed(folder, "stranger", PACKAGE, POINTS):
        yield folder


def scenario_in(folder: Path) -> str:
    path = folder / "strange.toml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.fixture(scope="module", params=["real time", "virtual time"])
def directory(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = VIRTUAL if request.param == "virtual time" else []
    out = folder / "out"
    command = ["run", scenario_in(folder), "--out", str(out), "--quiet", *settings]
    assert main(command) == 0
    return out


@pytest.fixture
def records(directory: Path) -> Records:
    return read_records(directory)


def test_it_decides_in_every_mode(records: Records) -> None:
    waits = {attempt.decision.retry_in for attempt in records.attempts
             if attempt.decision and attempt.cell.endswith("_alone_attempt")}  # fmt: skip
    assert waits - {None} == {3_000_000}, "three scenario seconds"
    assert max(attempt.attempt for attempt in records.attempts) > 2
    for cell in {attempt.cell for attempt in records.attempts if "capped" in attempt.cell}:
        decisions = [attempt.decision for attempt in records.attempts
                     if attempt.cell == cell and attempt.decision]  # fmt: skip
        assert sum(decision.retry_in is not None for decision in decisions) == 2
        assert "retry-cap" in {decision.give_up for decision in decisions}


def test_every_view_is_complete(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    assert {cell["retry"] for cell in summary["cells"]} == {"alone", "inside", "capped"}
    code = summary["recommendation"]["code"]
    assert "import stranger" in code
    assert any("stranger.StubbornSection(" in line for line in code)
    compile("\n".join(code), "pasted", "exec")
    spans = "".join(path.read_text() for path in (directory / "traces").glob("*.jsonl"))
    assert '"name":"backoff"' in spans.replace(" ", "")
    assert "alone" in (directory / "report.html").read_text()
    assert main(["compare", str(directory), copied(directory)]) == 0
    assert main(["trace", str(directory)]) == 0
    assert "alone" in capsys.readouterr().out


def test_the_estimate_counts_its_attempts(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "sweep.mode=async", "--set", "sweep.retry=inside"]
    assert main(["run", scenario_in(tmp_path), "--dry-run", "--json", *settings]) == 0
    expected = json.loads(capsys.readouterr().out)["estimate"]
    assert expected["most_attempts"] == 7 * 3 * (3 + 2 + 1)


def test_a_mistake_in_its_keys_is_one_line(package: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenario(SCENARIO, "file.toml", ["retry.alone.trys=2"])
    assert str(caught.value) == (
        "--set retry.alone.trys: unknown key (did you mean 'tries'?); known here: kind, rest, tries"
    )
    with pytest.raises(InputError) as caught:
        parse_scenario(SCENARIO, "file.toml", ["retry.inside.layers=['cap', 'cap', 'alone']"])
    assert "retry.inside.layers[1] = 'cap': occurs twice" in str(caught.value)


def test_the_run_can_be_read_where_the_package_is_not_installed(
    directory: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [part for part in sys.path
                                     if part != str(package)])  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    assert main(["report", str(copy)]) == 0
    written = (copy / "summary.json").read_text()
    assert written == (directory / "summary.json").read_text()
    assert "stranger.StubbornSection(" in written
    assert main(["trace", "export", str(copy)]) == 0


FAULTY = """
from typing import Literal

from harness.policies.section import BackoffSection
from harness.records.schema import PolicyCode


class FaultySection(BackoffSection):
    kind: Literal["faulty"]

    def retry(self, context):
        return self

    def decide(self, failure, random):
        raise RuntimeError("out of order")

    def code(self):
        return PolicyCode(attempts=2)
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install a package whose rule raises; return a scenario that uses it."""
    folder = tmp_path_factory.mktemp("faulty")
    scenario = Path(scenario_in(folder))
    text = scenario.read_text().replace('["alone", "inside", "capped"]', '"bad"')
    scenario.write_text(f'{text}[retry.bad]\nkind = "faulty"\n')
    points = {"harness.policies": "faulty = faulty:FaultySection\n"}
    with installed(folder, "faulty", FAULTY, points):
        yield scenario


@pytest.mark.parametrize(
    "settings",
    [
        [*VIRTUAL, "--jobs", "1"],
        [*VIRTUAL, "--jobs", "2"],
        *(["--set", f"sweep.mode={mode}"] for mode in ("sync", "threads", "async")),
    ],
    ids=["virtual", "virtual, 2 jobs", "sync", "threads", "async"],
)
def test_a_rule_that_raises_names_its_package(
    package: Path, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, settings: list[str],
) -> None:  # fmt: skip
    command = ["run", str(faulty), "--quiet", *settings, "--out"]
    assert main([*command, str(tmp_path / "out")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "harness: error in the package 'faulty' (RuntimeError: out of order); repair or uninstall "
        "that package"
    )
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    assert main([*command, str(tmp_path / "again")]) == 4
    assert "in decide" in capsys.readouterr().err
