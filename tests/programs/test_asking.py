"""What `ask` and `harness.gather` take and refuse, and asking after the deadline."""

from __future__ import annotations

import json
from typing import Any

import pytest

import harness
from harness.workflows.program.asking import make_call
from tests.programs.odd import ODD, odd
from tests.programs.played import play_all, scenario

MESSAGES = [{"role": "user", "content": "x"}]
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": "m"}, TypeError, r"ask\('work'\): model cannot be given; \[endpoint\] model sets"),
    ({"stream": True}, TypeError, "stream cannot be given"),
    ({"n": 2}, TypeError, "n cannot be given; ask several times"),
    ({"tools": [len]}, TypeError, "cannot be sent as JSON"),
    ({"temperature": object()}, TypeError, "cannot be sent as JSON"),
    ({"max_tokens": 0}, ValueError, "max_tokens = 0: give a number above 0"),
    ({"max_tokens": True}, ValueError, "max_tokens = True"),
    ({"messages": []}, TypeError, "there is no message"),
    ({"messages": None}, TypeError, "messages are missing; give a name for the call"),
    ({"messages": ["x"]}, TypeError, "'x' is no message"),
    ({"phase": 3}, ValueError, r"ask\(3\): give a name of a phase"),
    ({"phase": " "}, ValueError, "give a name of a phase"),
    ({"phase": "a\nb"}, ValueError, "give a name of a phase"),
    ({"phase": []}, ValueError, "give a name of a phase"),
    ({"phase": "warm-up"}, ValueError, "the phase of warm-up calls"),
]


@pytest.mark.parametrize(("given", "kind", "text"), REFUSED)
def test_what_cannot_be_sent_is_refused(
    given: dict[str, Any], kind: type[Exception], text: str
) -> None:
    arguments: dict[str, Any] = {"phase": "work", "messages": MESSAGES} | given
    with pytest.raises(kind, match=text):
        make_call(**arguments)


def test_a_call_that_was_not_awaited_says_so() -> None:
    call: Any = make_call("draft", "x")
    with pytest.raises(AttributeError, match=r"ask\('draft'\) has no text yet; await it"):
        assert call.text


@pytest.mark.parametrize("enough", [-1, 3, 1.5, 0.0, True, "2"])
def test_a_number_of_branches_that_cannot_be_is_refused(enough: Any) -> None:
    with pytest.raises(ValueError, match="gather: enough"):
        harness.gather(make_call("a", "x"), make_call("a", "x"), enough=enough)


@odd
async def uses_tools(ask: Any) -> str:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    parts = [{"type": "text", "text": "Look it up."}]
    said: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    answer = await ask("step", said, tools=[tool], tool_choice="required")
    call = answer.tool_calls[0]
    function = {"name": call.name, "arguments": call.arguments}
    said.append({"role": "assistant", "content": None, "tool_calls": [
        {"id": call.id, "type": "function", "function": function}
    ]})  # fmt: skip
    said.append({"role": "tool", "tool_call_id": call.id, "content": "found"})
    await ask("step", said, tools=[tool])
    answer = await ask("form", "x", response_format={"type": "json_object"}, temperature=0.5)
    json.loads(answer.text)
    return "done"


@odd
async def asks_after_the_deadline(ask: Any) -> str:
    while True:
        try:
            await ask("work", "x", raises=False)
        except Exception:
            await harness.sleep(1)


def played(name: str, **parts: Any) -> Any:
    assert name in ODD
    own = {"program": "tests.programs.odd:run_one", "topics": [name]}
    sweep = {"mode": ["async"], "permits": [2], "retry": ["none"]}
    load = {"workflows": 1, "in_flight": 1}
    [records] = play_all(scenario(own, sweep=sweep, load=load, **parts)).values()
    return records


def test_tools_parts_and_formats_are_sent() -> None:
    records = played("uses_tools")
    assert records.workflows[0].error is None
    assert [one.outcome for one in records.calls] == ["ok", "ok", "ok"]


def test_a_program_that_asks_for_ever_ends_at_the_deadline() -> None:
    records = played("asks_after_the_deadline", timeouts={"workflow": "200s"})
    [workflow] = records.workflows
    assert workflow.done - workflow.ready == 200 * 10**9
    assert workflow.error is not None
    assert workflow.error.startswith("work: workflow_timeout")
    assert records.calls[-1].outcome == "workflow_timeout"


@odd
async def gathers_without_raising(ask: Any) -> None:
    await harness.gather(*(ask("work", "x", raises=False) for _ in range(3)), enough=2)


def test_a_gather_of_calls_that_do_not_raise_names_their_failure() -> None:
    faults = [{"kind": "unavailable", "probability": 1.0}]
    records = played("gathers_without_raising", faults=faults)
    [workflow] = records.workflows
    assert workflow.error == ("work: unavailable (HTTP 503); 2 of 3 failed, 2 had to succeed")
