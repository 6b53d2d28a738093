"""The process that a Dask worker starts for shares of trials."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.bench import dask_shares
from harness.bench.cells import expand
from harness.bench.dask_shares import (
    Sealed,
    TakenMessages,
    end_share_process,
    start_share_process,
    take_messages,
)
from harness.bench.resume import RunProgress
from harness.bench.runner import describe_run
from harness.bench.scenario_file import parse_scenario
from harness.bench.share_child import ShareReady, ShareSession

SCENARIO = """
name = "some"
[workflow]
topics = ["tides"]
[sweep]
permits = [1]
"""


class Worker(NamedTuple):
    """What the functions of a worker need to know of it."""

    address: str


HERE = Worker("here")


@pytest.fixture
def session() -> Iterator[Sealed]:
    scenario = parse_scenario(SCENARIO, "some.toml")
    begun = RunProgress(scenario, describe_run(scenario, {}, expand(scenario), ()))
    yield Sealed(pickle.dumps(ShareSession(pickle.dumps(begun), [])))
    end_share_process("one")


def taken(start: int = 0) -> TakenMessages:
    return TakenMessages(*take_messages("one", {"here": start}, dask_worker=HERE))


def messages() -> list[Any]:
    """Return the messages of the process once it has sent one."""
    while not (found := taken()).messages:
        assert found.exit_code is None
    return [pickle.loads(one) for one in found.messages]


def test_messages_are_kept_until_they_have_been_received(session: Sealed) -> None:
    start_share_process("one", session)
    assert [type(one) for one in messages()] == [ShareReady]
    assert len(taken().messages) == 1  # the answer may have been lost on its way
    assert taken(start=1) == ([], None)
    assert taken(start=1) == ([], None)


def test_a_process_whose_messages_nobody_takes_is_killed(
    session: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_share_process("one", session)
    messages()
    monkeypatch.setattr(dask_shares, "_UNASKED", -1.0)  # so that no question is soon enough
    while (code := taken().exit_code) is None:
        pass
    assert code == -signal.SIGKILL


def test_a_process_ends_with_its_worker(session: Sealed, tmp_path: Path) -> None:
    start_share_process("one", session)
    messages()
    child = dask_shares._children["one"]._process
    end_share_process("one")
    assert child.wait(60) == 0
