"""What a run shows when it ends."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.model import (
    AttemptCounts,
    Cell,
    Figure,
    Oracle,
    Recommendation,
    Requirement,
    Rival,
    SettlesWith,
    Spread,
    Summary,
    Verdict,
    WorkflowCounts,
    WorkflowFailure,
)
from harness.analysis.question import Question
from harness.analysis.workflow_failures import REJECTED
from harness.records.schema import Stop
from harness.report.advisories import warnings_of
from harness.report.answer_text import run_answer
from harness.report.first_screen import LINES, first_screen, interrupted_screen
from harness.report.next_steps import Rerun, can_be_virtual, next_steps
from tests.report.summaries import distribution, figure, make_cell, make_summary
from tests.report.test_terminal import IDS, any_summary

HERE = Path("results/20260101T000000Z-synthetic")


def shown(summary: Summary, width: int = 80, **options: Any) -> list[str]:
    return [str(line) for line in first_screen(summary, HERE, width, **options)]


def advice(state: str, candidate: str | None, **fields: Any) -> Recommendation:
    plain: dict[str, Any] = {
        "state": state, "candidate": candidate, "objective": "makespan", "because": (),
        "cell": candidate if state == "proven" else None, "retry_exercised": True,
        "lead_over_next": Figure(value=1.5, low=1.3, high=1.8),
    }  # fmt: skip
    return Recommendation(**(plain | fields))


def losing(cell: str, ok: int, degraded: int = 0, **fields: Any) -> Cell:
    counts = WorkflowCounts(started=24, ok=ok, degraded=degraded, failed=24 - ok - degraded)
    rate = Figure(value=ok / 24)
    return make_cell(cell, **({"workflows": counts, "success_rate": rate} | fields))


@given(
    any_summary(),
    st.sampled_from(get_args(Question)),
    st.sampled_from(["proven", "leading", "open"]),
    st.sampled_from(["makespan", "workflow_p95", "cost_per_successful_workflow"]),
    st.integers(80, 120),
)
def test_no_run_needs_more_than_a_screen(
    summary: Summary, question: Question, state: str, objective: str, width: int
) -> None:
    best = summary.cells[0].id if summary.cells else None
    said = advice(state, best, objective=objective)
    summary = msgspec.structs.replace(summary, question=question, recommendation=said)
    lines = shown(summary, width)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= width


def test_a_long_command_is_continued_before_an_option() -> None:
    settles = SettlesWith(missing="lead", max_repeats=1234, workflows=80)
    said = advice("leading", IDS[1], settles_with=settles)
    rerun = Rerun("a folder/mine.toml", ("endpoint.model=a model",))
    summary = make_summary(IDS, recommendation=said, planned_workflows=72)
    lines = [str(line) for line in first_screen(summary, HERE, 80, rerun=rerun)]
    at = next(at for at, line in enumerate(lines) if line.startswith("Next: "))
    assert [line.endswith(" \\") for line in lines[at : at + 2]] == [True, False]
    command = "\n".join(lines[at : at + 2]).removeprefix("Next: ")
    wanted = rerun.command("sweep.repeats=auto", "sweep.max_repeats=1234")
    assert shlex.split(command.replace("\\\n", " ")) == shlex.split(wanted)
    assert max(map(len, lines)) <= 80


def test_the_first_note_has_room_beside_many_settings_and_a_long_answer() -> None:
    settles = SettlesWith(missing="both", max_repeats=10, workflows=80)
    ids = [f"async_{permits}_none_attempt" for permits in range(1, 9)]
    cells = [make_cell(ids[0]), *(losing(cell, 3, slo="broken") for cell in ids[1:])]
    said = advice("open", ids[0], settles_with=settles)
    error = f"RuntimeError: {20 * 'no table '}(program.py, line 3)"
    failure = WorkflowFailure(phase="", outcome=None, workflows=147, in_program=True, error=error)
    lines = shown(make_summary(cells, recommendation=said, workflow_failures=(failure,)))
    assert len(lines) <= LINES
    assert any(line.startswith("Note: ") for line in lines)


def test_cells_that_do_not_fit_are_counted() -> None:
    cells = [make_cell(f"async_{permits}_none_attempt") for permits in range(1, 41)]
    lines = shown(make_summary(cells))
    assert len(lines) == LINES
    rows = [line for line in lines if "24/24" in line]
    assert f"  and {40 - len(rows)} more, see --verbose" in lines


@pytest.mark.parametrize(
    ("state", "candidate", "beginning"),
    [
        ("proven", IDS[2], "Use 8 async calls at once: the fastest of 3 settings, and it keeps at "
         "least 90\u00a0% of workflows (both proven), 8.00 times as fast as one call at a time."),
        ("leading", IDS[2], "Best so far: 8 async calls at once, 8.00 times as fast as one call at "
         "a time. Not proven yet: that it is the fastest."),
        ("open", IDS[2], "Best so far: 8 async calls at once, 8.00 times as fast as one call at a "
         "time. Not proven yet: that it keeps at least 90\u00a0% of workflows, and that it is the "
         "fastest."),
        ("open", None, "No setting can be recommended yet."),
    ],
)  # fmt: skip
def test_each_state_says_what_is_proven(state: str, candidate: str | None, beginning: str) -> None:
    missing: Literal["lead", "both"] = "lead" if state == "leading" else "both"
    settles = SettlesWith(missing=missing, max_repeats=10, workflows=80)
    said = advice(state, candidate, settles_with=None if state == "proven" else settles)
    summary = make_summary(IDS, recommendation=said, slo=Requirement(success_rate=0.9))
    assert run_answer(summary).sentence.startswith(beginning)


def beside(place: Literal["equal", "behind", "ahead"], ratio: float, by: Any = None) -> Rival:
    return Rival(cell=IDS[0], ratio=figure(ratio, 1.005), place=place, preferred_by=by)


def test_a_lead_that_is_none_is_not_called_one() -> None:
    said = advice("proven", IDS[1], rivals=(beside("equal", 1.001, "permits"),))
    answer = run_answer(make_summary(IDS, recommendation=said))
    assert answer.sentence.startswith(
        "Use 2 async calls at once: it loses at most 5 of 100 workflows more than any other, and "
        "no such setting is faster by more than 2\u00a0% (both proven)"
    )
    assert (
        "1 other setting is equal within 2\u00a0%; this one allows fewer calls at" in answer.reason
    )


@pytest.mark.parametrize(
    ("rival", "objective", "expected"),
    [
        (beside("behind", 1.004), "makespan", "one call at a time, was as fast within <1\u00a0%"),
        (beside("behind", 1.25), "makespan", "the next one, one call at a time, took 1.25 times"),
        (beside("ahead", 0.938), "makespan", "one call at a time took 6\u00a0% less time and kept "
         "all 24 workflows"),
        (beside("ahead", 0.5), "workflow_p95", "kept its slowest workflows waiting 50\u00a0% less"),
        (beside("ahead", 0.5), "cost_per_successful_workflow", "cost 50\u00a0% less"),
        (beside("equal", 1.0, "safety"), "makespan", "It kept all 24 workflows; 1"),
    ],
)  # fmt: skip
def test_another_setting_is_compared_without_a_factor_below_one(
    rival: Rival, objective: str, expected: str
) -> None:
    said = advice("proven", IDS[2], rivals=(rival,), objective=objective)
    reason = run_answer(make_summary(IDS, recommendation=said)).reason
    assert ("less" if rival.place == "ahead" else "") in reason
    if rival.preferred_by == "safety":
        assert "equal" not in reason, "a policy that had nothing to do is said elsewhere"
    else:
        assert expected in reason


def test_the_nearest_rival_is_the_one_that_is_not_equal() -> None:
    rivals = (beside("equal", 1.0, "permits"), beside("behind", 1.3))
    reason = run_answer(
        make_summary(IDS, recommendation=advice("proven", IDS[2], rivals=rivals))
    ).reason
    assert "1 other setting is equal" in reason
    assert "took 1.30 times as long" in reason


def test_the_reason_says_what_would_settle_it() -> None:
    settles = SettlesWith(missing="both", max_repeats=10, workflows=80)
    said = advice("open", IDS[2], settles_with=settles)
    summary = make_summary(IDS, recommendation=said, planned_workflows=72)
    assert run_answer(summary).reason.endswith(
        "a new run of at most 10 repeats would probably prove both."
    )
    rerun = Rerun("mine.toml", ("seed=3", "sweep.repeats=3"))
    (first, *_) = next_steps(summary, HERE, rerun)
    assert first.command == (
        "harness run mine.toml --set seed=3 --set sweep.repeats=auto --set sweep.max_repeats=10"
    )
    assert next_steps(summary, HERE, None)[0].command == f"harness report {HERE} --verbose"
    adding = msgspec.structs.replace(summary, planned_workflows=None)
    (first, *_) = next_steps(adding, HERE, Rerun("mine.toml"))
    assert first.command == "harness run mine.toml --set sweep.max_repeats=10"


@pytest.mark.parametrize(
    ("budget", "raised"),
    [
        ({"attempts": 300.0}, ["budget.attempts=3200"]),
        ({"attempts": 3200.0}, []),
        ({"attempts": 300.0, "tokens": 10.0}, ["budget.attempts=3200", "budget.tokens=130000"]),
        ({"seconds": 60.0}, ["budget.seconds=28000"]),
        ({"usd": 0.01}, []),  # without a price nothing is known
    ],
)
def test_a_proposed_run_has_the_budget_that_it_needs(
    budget: dict[str, float], raised: list[str]
) -> None:
    settles = SettlesWith(missing="both", max_repeats=10, workflows=133)
    said = advice("open", IDS[2], settles_with=settles)
    summary = make_summary(IDS, recommendation=said, planned_workflows=72)
    (first, *_) = next_steps(summary, HERE, Rerun("mine.toml", budget=budget, settle=2.0))
    assert first.command.split(" --set ")[1:] == [
        "sweep.repeats=auto", "sweep.max_repeats=10", *raised
    ]  # fmt: skip


def test_a_run_whose_rest_is_enough_is_resumed_and_not_run_again() -> None:
    settles = SettlesWith(missing="slo", max_repeats=36, workflows=80, by_resuming=True)
    said = advice("leading", IDS[2], settles_with=settles)
    summary = make_summary(IDS, recommendation=said, status="partial", planned_workflows=None)
    reason = run_answer(summary).reason
    assert "going on with this run would probably prove it with at most 36 repeats in all" in reason
    first, *others = next_steps(summary, HERE, Rerun("mine.toml"))
    assert (first.command, first.purpose) == (
        f"harness run --resume {HERE}", "go on until it is proven"
    )  # fmt: skip
    assert not [step for step in others if "max_repeats" in step.command]


def test_policies_that_were_tested_elsewhere_are_said_to_be() -> None:
    idle = AttemptCounts(total=144, failed=0, by_outcome={"ok": 144}, amplification=1.0)
    cells = [
        make_cell("async_4_none_attempt", attempts=idle),
        make_cell("async_4_patient_attempt", attempts=idle),
        make_cell("async_8_none_attempt"),
        make_cell("async_8_patient_attempt"),
    ]
    said = advice("proven", cells[1].id, retry_exercised=False)
    assert run_answer(make_summary(cells, recommendation=said)).reason.endswith(
        "no request failed with 4 calls at once, so the 2 retry policies did the same there, and "
        "the safest is used; requests failed only with 8 calls at once."
    )


def test_cells_with_fewer_repeats_are_counted_as_such() -> None:
    cells = [make_cell(IDS[0], repeats=4), make_cell(IDS[2], repeats=12)]
    assert any(", 4 to 12 repeats, " in line for line in shown(make_summary(cells)))


def test_a_run_that_lacks_records_is_not_called_proven() -> None:
    said = advice("open", None)
    summary = make_summary(IDS, recommendation=said, lacking=("3 attempts are missing.",))
    lines = shown(summary)
    assert lines[0] == "Records of this run are missing, so nothing is proven."
    assert lines[1].startswith("3 attempts are missing. Restore the files")
    assert [line for line in lines if line.startswith("Note: the records are incomplete")]


def test_sync_is_mentioned_only_where_it_ran() -> None:
    summary = make_summary(IDS[1:])
    text = " ".join(shown(summary, 120))
    assert "sync" not in text.replace("async", "")


def test_a_policy_says_what_it_loses() -> None:
    cells = [
        losing("async_8_none_attempt", 6),
        losing("async_8_patient_attempt", 23, degraded=1),
        losing("async_8_parking_attempt", 24),
    ]
    rival = Rival(cell=cells[2].id, ratio=Figure(value=0.99), place="equal")
    said = advice("proven", cells[1].id, rivals=(rival,))
    summary = make_summary(cells, question="policy", recommendation=said)
    answer = run_answer(summary)
    assert answer.sentence == (
        "Use retry policy patient, which loses at most 5 of 100 workflows more than any other "
        "(proven): it lost 1 of 24 workflows, policy none lost 18."
    )
    assert "policy parking lost none of 24 workflows and was as fast within 2" in answer.reason


def test_policies_that_met_no_failure_were_not_tested() -> None:
    cells = [make_cell(f"async_8_{retry}_attempt") for retry in ("none", "patient")]
    for question, expected in (
        ("policy", "No request failed, so the retry policies were not tested."),
        ("permits", "(both proven), 8.00 times as fast as one call at a time."),
    ):
        said = advice("proven", cells[1].id, retry_exercised=False)
        answer = run_answer(make_summary(cells, question=question, recommendation=said))
        assert answer.sentence.endswith(expected)
        assert ("retry policies were not tested" in answer.reason) is (question == "permits")


def hedging(before: Figure, after: Figure) -> str:
    cells = [
        make_cell("async_8_none_attempt", workflow_latency_s=distribution(1.0)),
        make_cell("async_8_hedged_attempt", workflow_latency_s=distribution(1.0)),
    ]
    tails = [
        msgspec.structs.replace(
            cell, workflow_latency_s=msgspec.structs.replace(cell.workflow_latency_s, p95=tail)
        )
        for cell, tail in zip(cells, (before, after), strict=True)
    ]
    summary = make_summary(tails, question="hedge", hedged=("hedged",), time_scale=1.0)
    return run_answer(summary).sentence


def test_a_hedge_says_what_it_saves_of_the_slowest_workflows() -> None:
    assert hedging(figure(80.0), figure(20.0)) == (
        "Second requests cut the time of the slowest workflows by 75\u00a0%: 95\u00a0% of "
        "workflows end within 20.0 s instead of 80.0 s."
    )
    assert hedging(figure(20.0), figure(80.0)).startswith("Second requests make the slowest")
    assert hedging(figure(20.0), figure(20.5)).startswith("Nothing is proven yet about second")


def measured(limited: tuple[str, ...], **fields: Any) -> Summary:
    oracle = Oracle(
        attempts=9, unmatched=0, outcome_mismatches=0, token_mismatches=0,
        first_text_s=Spread(p50=0.001, p99=0.004), inter_token_p50_s=None,
    )  # fmt: skip
    verdict = Verdict(
        bottleneck="client" if limited else "none", because=("It was late.",), limited_cells=limited
    )
    plain: dict[str, Any] = {"oracle": oracle, "verdict": verdict, "question": "accuracy"}
    return make_summary(IDS[1:], **(plain | fields))


def test_the_accuracy_of_a_machine_names_what_it_measures_exactly() -> None:
    seen = "half of the first texts are seen within 1.00 ms, 99\u00a0% within 4.00 ms."
    assert run_answer(measured(())).sentence == (
        f"This machine measures these streams exactly: {seen}"
    )
    assert run_answer(measured((IDS[2],))).sentence == (
        f"This machine measures 2 calls at once exactly, but not 8 calls at once: {seen}"
    )
    assert run_answer(measured(IDS[1:])).sentence.startswith("This machine is too slow to")
    assert run_answer(measured((), virtual=True)).sentence.startswith("Time was virtual")
    assert not [line for line in shown(measured(())) if line.startswith("*")], "nothing to choose"


CLIENT = "endpoint.client"


def of_clients(openai: float, wire: float, **fields: Any) -> Summary:
    """Return a run of both clients with 2 and 8 permits; milliseconds of processor time of 8."""
    cells = [
        make_cell(
            name, id=f"{name}_{client}", settings={CLIENT: client}, ttft_s=distribution(0.2 * 0.05),
            client_wait_s=distribution((0.004 if client == "openai" else 0.001) * 0.05),
            client_cpu_per_attempt_s=figure(cost * int(name.split("_")[1]) / 8000, 1.2),
        )
        for name in ("async_2_none_attempt", "async_8_none_attempt")
        for client, cost in (("openai", openai), ("wire", wire))
    ]  # fmt: skip
    plain: dict[str, Any] = {
        "question": "client",
        "clients": ("openai", "wire"),
        "recommendation": advice("open", None),
    }
    return make_summary(cells, **(plain | fields))


def test_the_cost_of_clients_is_told_of_the_settings_with_most_streams() -> None:
    answer = run_answer(of_clients(4.0, 2.0))
    assert answer.sentence == (
        "With 8 calls at once, the openai package takes 4.00 ms of processor time a request, 2.00 "
        "times as much as the wire client (2.00 ms)."
    )
    assert answer.reason == (
        "In the median, the first text comes after 200 ms with both clients and the client wait is "
        "4.00 ms instead of 1.00 ms; a program that uses the openai package has the figures of "
        "openai."
    )
    assert run_answer(of_clients(2.0, 4.0)).sentence.startswith(
        "With 8 calls at once, the wire client takes 4.00 ms"
    )
    assert run_answer(of_clients(2.4, 2.0)).sentence == (
        "With 8 calls at once, no difference between the clients is proven: the openai package "
        "takes 2.40 ms of processor time a request, the wire client 2.00 ms."
    )


def test_clients_that_cannot_be_compared() -> None:
    whole = of_clients(4.0, 2.0)
    assert run_answer(msgspec.structs.replace(whole, virtual=True)).sentence.startswith("Time was")
    wire = msgspec.structs.replace(whole, cells=whole.cells[3:], clients=("wire",))
    assert run_answer(wire).sentence == (
        "The wire client takes 2.00 ms of processor time a request."
    )
    cells = [msgspec.structs.replace(one, client_cpu_per_attempt_s=None) for one in whole.cells]
    nothing = msgspec.structs.replace(whole, cells=tuple(cells))
    assert run_answer(nothing).sentence.startswith("No trial ran to its end")


def test_the_screen_of_clients_recommends_nothing_and_has_their_figures() -> None:
    known = ("kind", "time", "time_scale")
    lines = shown(of_clients(4.0, 2.0, endpoint_keys=known))
    said = " ".join(lines)
    assert "recommended" not in said
    assert "time=virtual" not in said
    assert [line.split()[1:6] for line in lines if "· wire" in line] == [
        ["8", "·", "wire", "2.00", "1.00"], ["2", "·", "wire", "0.500", "1.00"],
    ]  # fmt: skip
    assert "CPU: of the client's process; client wait: from permit to request;" in lines
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("limited", "notes"), [("client", 0), ("simulator", 1), ("none", 0)])
def test_the_client_is_what_is_measured_where_clients_are_compared(
    limited: str, notes: int
) -> None:
    verdict = Verdict(bottleneck=limited, because=("It was late.",))
    assert len(warnings_of(of_clients(4.0, 2.0, verdict=verdict))) == notes


def test_virtual_time_is_not_proposed_for_the_wire_client() -> None:
    known = make_summary(IDS, endpoint_keys=("kind", "time", "time_scale"))
    assert can_be_virtual(known)
    assert not can_be_virtual(msgspec.structs.replace(known, clients=("wire",)))


def failing(**fields: Any) -> Summary:
    attempts = AttemptCounts(
        total=24, failed=24, by_outcome={"unauthorized": 24}, amplification=1.0
    )
    cells = [losing(cell, 0, attempts=attempts) for cell in IDS]
    return make_summary(cells, recommendation=advice("open", None), **fields)


def test_a_run_without_a_success_says_why_and_what_to_do() -> None:
    lines = shown(failing(endpoint_keys=("api_key_env",)))
    assert lines[:2] == [
        "No workflow succeeded: all 72 failed.",
        "The most frequent failure: unauthorized (401), 72 requests; check the API key.",
    ]
    assert not [line for line in lines if line.startswith("Note:")]
    assert lines[-3] == f"Next: harness trace {HERE} --failed"
    simulated = run_answer(failing(endpoint_keys=("profile",)))
    assert "with your own endpoint: check the API key" in simulated.reason


def test_answers_that_cannot_be_used_are_the_reason() -> None:
    failure = WorkflowFailure(
        phase="decompose", outcome=None, error="decompose: the answer was blank", workflows=72
    )
    answer = run_answer(failing(workflow_failures=(failure,)))
    assert answer.reason.startswith(
        "The most frequent failure: decompose unreadable, 72 workflows; every call was answered"
    )


def test_rejected_results_are_told_from_failures() -> None:
    failure = WorkflowFailure(phase="", outcome=None, error=REJECTED, workflows=24, in_program=True)
    answer = run_answer(failing(workflow_failures=(failure,)))
    assert answer.sentence.endswith("72 failed, and the program rejected the result of 24.")


def test_ctrl_c_shows_five_lines() -> None:
    stop = Stop(by="interrupt", because="interrupted")
    summary = make_summary(IDS, status="partial", stopped=stop, planned_workflows=100)
    lines = [str(line) for line in interrupted_screen(summary, HERE, 80)]
    assert lines[0] == "Interrupted: 72 of 100 workflows ended and are saved, 28 never ended."
    assert " ".join(line.strip() for line in lines[1:-3]) == run_answer(summary).sentence
    assert lines[-3].endswith(f"harness run --resume {HERE}")
    assert max(map(len, lines)) <= 80


def test_ctrl_c_names_the_records_that_are_missing() -> None:
    stop = Stop(by="interrupt", because="interrupted")
    lacking = ("3 attempts are missing.",)
    summary = make_summary(IDS, status="partial", stopped=stop, lacking=lacking)
    lines = [str(line) for line in interrupted_screen(summary, HERE, 80)]
    assert len(lines) == 5
    assert lines[1] == "Damaged:     3 attempts are missing. Nothing is proven."


@pytest.mark.parametrize(
    ("limit", "planned", "more"),
    [
        ("budget.attempts = 40", 100, "attempts=790"),
        ("budget.tokens = 1e+06", 100, "tokens=1300000"),  # at least more than it was
        ("budget.usd = 0.5", 100, "usd=MORE"),
        ("budget.attempts = 40", None, "attempts=MORE"),
    ],
)
def test_the_budget_to_go_on_with_is_more_than_the_former_one(
    limit: str, planned: int | None, more: str
) -> None:
    stop = Stop(by="budget", because=f"{limit} leaves no room for another attempt; spent: 9 tokens")
    summary = make_summary(IDS, status="partial", stopped=stop, planned_workflows=planned)
    (first, *_) = next_steps(summary, HERE, None)
    assert first.command == f"harness run --resume {HERE} --set budget.{more}"


def test_a_budget_that_stopped_a_run_is_raised_to_go_on() -> None:
    stop = Stop(by="budget", because="budget.attempts = 40 leaves no room for another attempt")
    summary = make_summary(IDS, status="partial", stopped=stop, planned_workflows=100)
    lines = shown(summary)
    assert lines[-4:-2] == [
        f"Next: harness run --resume {HERE} \\",
        "        --set budget.attempts=790",
    ]
    assert [line for line in lines if line.startswith("Note: the run is partial: 28 workflows")]


def test_virtual_time_is_proposed_where_the_machine_was_too_slow() -> None:
    verdict = Verdict(bottleneck="simulator", because=("It was late.",))
    keys = ("profile", "time", "time_scale")
    summary = make_summary(IDS, verdict=verdict, endpoint_keys=keys)
    (first, *_) = next_steps(summary, HERE, Rerun("quickstart"))
    assert first.command == "harness run quickstart --set endpoint.time=virtual"
    live = make_summary(IDS, verdict=verdict, endpoint_keys=("base_url",))
    assert "virtual" not in next_steps(live, HERE, Rerun("quickstart"))[0].command


def test_a_run_without_a_report_names_its_records() -> None:
    assert f"Records: {HERE}" in shown(make_summary(IDS), has_report=False)


def test_a_run_of_several_processes_is_repeated_with_as_many_but_not_in_virtual_time() -> None:
    rerun = Rerun("mine.toml", processes=2)
    assert rerun.command("seed=3") == "harness run mine.toml --processes 2 --set seed=3"
    assert rerun.command("endpoint.time=virtual") == (
        "harness run mine.toml --set endpoint.time=virtual"
    )
    assert Rerun("mine.toml").command() == "harness run mine.toml"
