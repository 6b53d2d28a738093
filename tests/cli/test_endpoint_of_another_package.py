"""An endpoint of another package is as complete as a built-in one, in every mode and every view."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records, read_run
from tests.cli.answering import copied
from tests.cli.packages import installed

PACKAGE = '''
"""A model in the next room, which here is a simulated provider, and one in virtual time."""
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from harness.endpoints.section import (
    EndpointFacts, EndpointSection, EndpointServer, SecondsRange, SimulationSettings,
)
from harness.endpoints.simulated import start_simulator
from harness.records.errors import PreflightError

FACTS = EndpointFacts(
    heading="a model in the next room", simulation=None, time_scale=1.0, key_variable="ROOM_KEY",
    key_advice="ROOM_KEY", price=None, no_price="nobody pays for it", may_cost=False, settle=0.0,
    call_seconds=SecondsRange(2.0, 3.0), connect_floor=0.0, nonce=True, json_mode=True,
    extra_body={"seed": 7}, extra_body_by_phase={}, reuse_connections=True, own_server=True,
    packages=("room",),
)


class RoomEndpoint(EndpointSection):
    kind: Literal["room"]
    model: str = "room-model"
    door: Literal["open", "closed"] = "open"

    @property
    def facts(self) -> EndpointFacts:
        return FACTS

    def server(self, api_key: str, seed: int, log: Path) -> AbstractContextManager[EndpointServer]:
        assert api_key == "the key"
        return start_simulator("plain-chat", {}, seed, 0.001, log.with_name("elsewhere.jsonl"))

    def check(self) -> None:
        if self.door == "closed":
            raise PreflightError("endpoint.door = 'closed': nobody can get in; open it")


class DreamEndpoint(EndpointSection):
    kind: Literal["dream"]
    model: str = "dream-model"

    @property
    def facts(self) -> EndpointFacts:
        return FACTS._replace(
            heading="a dream", simulation=SimulationSettings("plain-chat", {}, virtual=True),
            time_scale=0.5, key_variable=None, nonce=False,
        )

    def server(self, api_key: str, seed: int, log: Path) -> AbstractContextManager[EndpointServer]:
        raise AssertionError("virtual time needs no server")

    def check(self) -> None:
        pass


class HalfEndpoint(EndpointSection):
    kind: Literal["half"]
    model: str = "m"

    def check(self) -> None:
        pass
'''
POINTS = {
    "harness.endpoints": "room = room:RoomEndpoint\n"
    "dream = room:DreamEndpoint\nhalf = room:HalfEndpoint\n"
}
SCENARIO = """
name = "next-door"
workflow.topics = ["tides"]
workflow.sub_questions = 2
endpoint.kind = "room"
[load]
workflows = 2
[sweep]
mode = ["sync", "threads", "async"]
permits = 2
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder where the package is installed while the tests run."""
    folder = tmp_path_factory.mktemp("packages")
    with installed(folder, "room", PACKAGE, POINTS):
        yield folder


@pytest.fixture
def scenario(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOM_KEY", "the key")
    path = tmp_path / "next-door.toml"
    path.write_text(SCENARIO)
    return str(path)


def test_it_is_run_in_every_mode_and_shown_in_every_view(
    scenario: str,
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["run", scenario, "--out", str(out)]) == 0
    assert "a model in the next room" in capsys.readouterr().err
    records = read_records(out)
    assert {attempt.outcome for attempt in records.attempts} == {"ok"}
    assert {attempt.cell.partition("_")[0] for attempt in records.attempts} == {
        "sync", "threads", "async",
    }  # fmt: skip
    assert records.run.marked_answers == "all"  # its server is the simulated provider
    assert records.run.versions["room"] == "1"
    for command in (["compare", str(out), copied(out)], ["trace", str(out)]):
        assert main(command) == 0
    assert any("room-model" in path.read_text() for path in (out / "traces").iterdir())
    path_without = [part for part in sys.path if part != str(package)]
    monkeypatch.setattr("sys.path", path_without)
    shutil.copytree(out, tmp_path / "copy")
    assert main(["report", str(tmp_path / "copy")]) == 0
    assert "a model in the next room" in (tmp_path / "copy" / "report.html").read_text()


def test_a_run_is_planned_with_its_facts(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", scenario, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "a model in the next room" in said
    assert "if a call takes 2 to 3 seconds" in said
    assert main(["run", scenario, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert not plan["simulated"]
    assert plan["estimate"]["no_usd"] == "nobody pays for it"


def test_what_it_needs_is_checked_before_the_run(
    scenario: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", scenario, "--set", "endpoint.door=closed"]) == 2
    assert "nobody can get in; open it" in capsys.readouterr().err
    monkeypatch.delenv("ROOM_KEY")
    assert main(["run", scenario]) == 2
    assert "ROOM_KEY: not set" in capsys.readouterr().err


def test_a_simulated_one_can_run_in_virtual_time(scenario: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ["--set", "endpoint.kind=dream", "--set", 'sweep.mode=["sync", "async"]']
    assert main(["run", scenario, "--out", str(out), "--quiet", *settings]) == 0
    run = read_run(out)
    assert (run.simulated, run.virtual, run.time_scale) == (True, True, 0.5)


def test_one_that_is_not_complete_is_refused_in_one_line(
    scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", scenario, "--set", "endpoint.kind=half"]) == 2
    assert (
        "endpoint.kind = 'half': its package cannot be used (TypeError: HalfEndpoint does not "
        "define facts, server); repair or uninstall that package"
    ) in capsys.readouterr().err
