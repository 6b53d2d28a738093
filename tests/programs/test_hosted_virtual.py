"""Programs that use the openai package, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.analysis.critical_path import critical_path
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench.scenario import Scenario
from harness.bench.user_code import check_code
from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.records.groups import WorkflowRecords
from harness.report.advisories import warnings_of
from harness.report.answer_text import run_answer
from tests.programs.running import VIRTUAL, Ran, run

ASK = """
    import asyncio
    import openai

    own = openai.AsyncOpenAI(max_retries=0)

    async def ask(client, text="a", **more):
        reply = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": text}], **more
        )
        return reply.choices[0].message.content
"""


def virtual(folder: Path, program: str, *options: str, **sets: Any) -> Ran:

    return run(folder, dedent(ASK) + dedent(program), VIRTUAL, *options, **sets)


FANNED = """
    async def main(client, topic):
        plan = await ask(client, topic)
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(ask(own, f"{topic} {n}")) for n in range(3)]
        gate = asyncio.Semaphore(2)
        async def limited(n):
            async with gate:
                await asyncio.sleep(10)
                return await ask(client, f"more {n}")
        more = await asyncio.gather(*(limited(n) for n in range(4)))
        try:
            async with asyncio.timeout(0.5):
                await ask(client, "too slow")
        except TimeoutError:
            pass
        stream = await own.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": plan}]
        )
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        vector = await client.embeddings.create(model="e", input=text[:20])
        answer = await client.responses.create(model="m", input=text[:20])
        return answer.output_text + text
"""


def test_what_awaits_the_client_and_asyncio_runs_in_virtual_time(tmp_path: Path) -> None:
    ran = virtual(tmp_path, FANNED)
    assert ran.errors == [None]
    outcomes = [outcome for _, _, outcome in ran.calls]
    assert outcomes.count("cancelled") == 1
    assert outcomes.count("ok") == len(outcomes) - 1 == 11
    [workflow] = ran.records.workflows
    assert workflow.done - workflow.ready > 30 * SECOND
    [cancelled] = [one for one in ran.records.attempts if one.outcome == "cancelled"]
    assert cancelled.done - cancelled.permit_granted == SECOND // 2


def test_the_records_are_the_same_with_one_and_with_two_processes(tmp_path: Path) -> None:
    def files(name: str, *options: str) -> dict[str, bytes]:
        folder = tmp_path / name
        folder.mkdir()
        out = virtual(
            folder, FANNED, *options, load__workflows=3, sweep__mode=["serial", "async"],
            sweep__repeats=2, sweep__permits=[2],
        ).out  # fmt: skip
        return {
            file.name: file.read_bytes()
            for file in out.iterdir()
            if file.name in ("attempts.jsonl", "calls.jsonl", "workflows.jsonl")
        }

    one = files("one", "--jobs", "1")
    assert len(one) == 3
    assert files("two", "--jobs", "2") == one


def test_a_failed_call_is_an_exception_of_the_package(tmp_path: Path) -> None:
    program = """
        async def main(client):
            seen = []
            for number in range(3):
                try:
                    await client.chat.completions.create(model="m", messages=[])
                except openai.BadRequestError as error:
                    seen.append(error.status_code)
            assert seen == [400, 400, 400]
    """
    assert virtual(tmp_path, program).errors == [None]


def test_a_short_function_for_a_thread_is_called_at_once(tmp_path: Path) -> None:
    program = """
        import asyncio, threading

        async def main(client):
            assert await asyncio.to_thread(threading.current_thread) is threading.main_thread()
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, int, "none")
            except ValueError:
                return await client.embeddings.create(model="m", input="a")
    """
    ran = virtual(tmp_path, program)
    assert ran.errors == [None]
    assert ran.calls == [("embeddings", 1, "ok")]


def test_named_phases_have_records_and_hold_their_calls(tmp_path: Path) -> None:
    program = """
        async def part(n):
            with harness.phase("work"):
                with harness.phase("detail"):
                    await ask(own, f"part {n}")
                await ask(own, f"rest {n}")

        async def main(topic):
            with harness.phase("plan"):
                await ask(own, topic)
            await asyncio.gather(*(part(n) for n in range(3)))
            with harness.phase("write"):
                raise ValueError("no text")
    """
    ran = virtual(tmp_path, "import harness\n" + dedent(program))
    [workflow] = ran.records.workflows
    plan, work, detail, write = workflow.phases
    named = [(one.name, one.parent, one.outcome) for one in workflow.phases]
    assert named == [
        ("plan", None, "ok"), ("work", None, "ok"), ("detail", 1, "ok"), ("write", None, "failed"),
    ]  # fmt: skip
    calls = ran.records.calls
    assert (plan.start, plan.end) == (calls[0].ready, calls[0].done)
    assert (work.start, work.end) == (plan.end, max(one.done for one in calls))
    ends = [one.done for one in calls if one.phase == "detail"]
    assert (detail.start, detail.end) == (work.start, max(ends))
    assert write.start == write.end == workflow.done
    path = critical_path(workflow, WorkflowRecords(list(calls), list(ran.records.attempts)))
    assert sum(path.parts().values()) == path.latency
    assert path.parts().get("program", 0) == 0


def test_retries_of_the_own_client_are_counted_and_the_same_each_time(tmp_path: Path) -> None:
    program = """
        import openai

        async def main(topic):
            client = openai.AsyncOpenAI(max_retries=2)
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": topic}]
            )
    """
    down = f'{VIRTUAL}\nfaults = [{{ kind = "unavailable", probability = 1.0 }}]'
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = (run(tmp_path / name, dedent(program), down) for name in ("one", "two"))
    [workflow] = first.records.workflows
    assert workflow.own_retries == 2
    summary = summarise(Dataset.read(first.out))
    assert "retries of the program's own client" in " ".join(warnings_of(summary))
    assert (first.out / "calls.jsonl").read_bytes() == (second.out / "calls.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("time.sleep(1)", "time.sleep"),
        ("await asyncio.to_thread(time.sleep, 1)", "time.sleep"),
        (
            "threading.Thread(target=print).start()",
            "starting a thread is not possible in virtual time",
        ),
        (
            "socket.create_connection(('127.0.0.1', 9))",
            "opening a connection is not possible in virtual time",
        ),
        ("await asyncio.open_connection('127.0.0.1', 9)", "loop."),
        ("await asyncio.create_subprocess_exec('true')", "loop.subprocess_exec"),
        ("subprocess.run(['true'])", "starting a process is not possible in virtual time"),
        ("openai.OpenAI().models.list()", "openai.OpenAI"),
    ],
)
def test_what_takes_real_time_is_refused_in_one_line(
    tmp_path: Path, code: str, refused: str
) -> None:
    program = f"""
        import socket, subprocess, threading, time

        count = 0

        async def main(client):
            global count
            count += 1
            if count == 1:
                {code}
            return await ask(client)
    """
    first, second = virtual(tmp_path, program, load__workflows=2).errors
    assert first is not None
    assert refused in first
    assert "\n" not in first
    assert second is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("await loop.create_future()", "it waits for something that never happens"),
        (
            "while True:\n                    await asyncio.sleep(0)",
            "it runs without an end",
        ),
    ],
)
def test_a_program_that_never_ends_fails_and_the_run_goes_on(
    tmp_path: Path, code: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.simulator.virtual.event_loop._MOST_STEPS", 1000)
    program = f"""
        count = 0

        async def main(client):
            global count
            loop = asyncio.get_running_loop()
            count += 1
            if count == 2:
                {code}
            return await ask(client)
    """
    first, second, third = virtual(tmp_path, program, load__workflows=3).errors
    assert (first, third) == (None, None)
    assert second is not None
    assert second.startswith(reason)


def test_the_deadline_of_the_workflow_ends_a_program(tmp_path: Path) -> None:
    program = """
        async def main(client):
            while True:
                try:
                    await ask(client)
                except Exception:
                    pass
    """
    ran = virtual(tmp_path, program, timeouts__workflow="100s")
    assert ran.error == "workflow_timeout (the deadline passed)"
    [workflow] = ran.records.workflows
    assert workflow.done - workflow.ready < 102 * SECOND
    assert ran.records.calls[-1].outcome == "workflow_timeout"


def test_serial_makes_one_call_at_a_time(tmp_path: Path) -> None:
    program = """
        async def main(client):
            await asyncio.gather(*(ask(client, str(n)) for n in range(3)))
    """
    ran = virtual(tmp_path, program, sweep__mode=["serial"], load__workflows=2)
    attempts = sorted(ran.records.attempts, key=lambda one: one.permit_granted)
    assert len(attempts) == 6
    for one, other in pairwise(attempts):
        assert one.done <= other.permit_granted


def test_the_policy_retries_refusals_of_the_provider(tmp_path: Path) -> None:
    program = """
        async def main(client):
            return await asyncio.gather(*(ask(client, str(n)) for n in range(8)))
    """
    ran = virtual(
        tmp_path, program, endpoint__override__concurrency_cap=3,
        sweep__retry=["aws-standard"], sweep__permits=[8],
    )  # fmt: skip
    assert "rate_limited" in {one.outcome for one in ran.records.attempts}


def test_a_program_that_changes_the_folder_at_import_moves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    program = """
        import os
        os.chdir("other")

        async def main(client, topic):
            await client.models.list()
    """
    run(Path(), program, VIRTUAL)
    assert Path.cwd() == tmp_path
    assert (tmp_path / "out" / "run.json").exists()


def test_a_lock_that_is_made_at_import_works_in_every_trial(tmp_path: Path) -> None:
    program = """
        slots = asyncio.Semaphore(2)

        async def main(client, topic):
            async def limited(n):
                async with slots:
                    return await ask(client, f"{topic} {n}")
            return "".join(await asyncio.gather(*(limited(n) for n in range(4))))
    """
    ran = virtual(tmp_path, program, "--jobs", "1", sweep__repeats=3, load__workflows=2)
    assert ran.errors == [None] * 6


NEEDED = """
    import harness

    class Other: ...

    async def two(topic, depth):
        pass

    async def no_topic():
        return "done"

    @harness.workflow
    async def no_ask():
        pass
"""


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("tow", {}, "has no tow; its async functions are: ask, two, no_topic, no_ask"),
        ("Other", {}, "Other is no async function"),
        ("two", {}, "topic, workflow.arguments (missing a required argument: 'depth'); correct"),
        ("two", {"depth": 1, "width": 3}, "got an unexpected keyword argument 'width'"),
        ("no_ask", {}, "cannot be called with ask, topic, workflow.arguments"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_the_run(
    tmp_path: Path, name: str, arguments: dict[str, int], text: str
) -> None:
    path = tmp_path / "program.py"
    path.write_text(dedent(ASK) + dedent(NEEDED))
    workflow = {"program": f"{path}:{name}", "topics": ["a"], "arguments": arguments}
    endpoint = {"kind": "simulated", "time": "virtual"}
    scenario = Scenario.model_validate({"name": "n", "workflow": workflow, "endpoint": endpoint})
    with pytest.raises(InputError) as caught:
        check_code(scenario)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_makes_no_call_is_told_so(tmp_path: Path) -> None:
    ran = virtual(tmp_path, "async def main(topic):\n    return topic", load__workflows=2)
    assert ran.errors == [None, None]
    found = run_answer(summarise(ran.records))
    assert found.sentence == "No workflow called the model, so there is nothing to compare."
    assert "openai package" in found.reason
