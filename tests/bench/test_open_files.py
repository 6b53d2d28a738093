"""Every permit needs a connection, and a connection needs an open file."""

from __future__ import annotations

import resource

import pytest

from harness.bench.preflight import open_files
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.records.errors import PreflightError


def wide(permits: int, in_flight: int = 1000) -> Scenario:
    text = (
        'name = "wide"\n[workflow]\ntopics = ["t"]\nsub_questions = 10\n'
        f"[load]\nin_flight = {in_flight}\n[sweep]\npermits = [1, {permits}]\n"
    )
    return parse_scenario(text, "wide.toml")


class Machine:
    """A machine with limits of its own."""

    def __init__(self, soft: int, hard: int, denied: bool = False) -> None:
        self.limits = (soft, hard)
        self.denied = denied

    def get(self, what: int) -> tuple[int, int]:
        assert what == resource.RLIMIT_NOFILE
        return self.limits

    def set(self, what: int, limits: tuple[int, int]) -> None:
        assert what == resource.RLIMIT_NOFILE
        if self.denied:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(1024, 4096)
    monkeypatch.setattr(resource, "getrlimit", made.get)
    monkeypatch.setattr(resource, "setrlimit", made.set)
    return made


def test_a_limit_that_is_high_enough_is_left_as_it_is(machine: Machine) -> None:
    open_files(wide(500))
    assert machine.limits == (1024, 4096)


def test_the_soft_limit_is_raised_as_far_as_the_permits_need(machine: Machine) -> None:
    open_files(wide(2000))
    assert machine.limits[0] >= 2000
    assert machine.limits[1] == 4096


def test_too_low_a_hard_limit_is_one_line_with_the_way_out(machine: Machine) -> None:
    with pytest.raises(PreflightError) as raised:
        open_files(wide(5000))
    [line] = str(raised.value).splitlines()
    assert "sweep.permits = 5000" in line
    assert "4096" in line
    assert "ulimit" in line
    assert machine.limits == (1024, 4096)


def test_a_limit_that_may_not_be_raised_is_said_as_it_is(machine: Machine) -> None:
    machine.denied = True
    with pytest.raises(PreflightError, match="only 1024 are allowed"):
        open_files(wide(2000))


def test_permits_that_the_load_can_never_use_need_no_files(machine: Machine) -> None:
    open_files(wide(5000, in_flight=10))
    assert machine.limits == (1024, 4096)


def test_no_limit_is_enough(machine: Machine) -> None:
    machine.limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    open_files(wide(500_000, in_flight=100_000))
    machine.limits = (1024, resource.RLIM_INFINITY)
    open_files(wide(500_000, in_flight=100_000))
    assert machine.limits[0] >= 500_000


def test_each_command_in_flight_needs_files_of_its_own(machine: Machine) -> None:
    text = (
        'name = "commands"\n[workflow]\ncommand = ["true"]\ntopics = ["t"]\n'
        "[load]\nworkflows = 100\nin_flight = 100\n[sweep]\npermits = [1]\n"
    )
    open_files(parse_scenario(text, "commands.toml"))
    assert machine.limits[0] >= 1600
