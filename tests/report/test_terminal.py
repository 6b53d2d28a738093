from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.analysis.model import (
    AttemptCounts,
    Cell,
    Distribution,
    Figure,
    Oracle,
    PhaseReasoning,
    Recommendation,
    Summary,
    TokenCounts,
    WorkflowCounts,
)
from harness.analysis.summary import summarise
from harness.report.advisories import warnings_of
from harness.report.answer_text import run_answer
from harness.report.columns import terminal_table
from harness.report.console import pack
from harness.report.tables import Column
from harness.report.terminal import render_summary
from harness.report.wording import number, speedup
from tests.analysis.played import Shape, make_records
from tests.report.summaries import NOTHING, distribution, figure, make_cell, make_summary

IDS = ("sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt")
HERE = Path("results/20260101T000000Z-synthetic")


def shown(summary: Summary, directory: Path = HERE, **options: Any) -> str:
    file = io.StringIO()
    render_summary(summary, directory, Console(file=file, width=80, **options))
    return file.getvalue()


def row(text: str, *start: str) -> list[str]:
    """Return the words of the first table row that begins with these words."""
    for line in text.splitlines():
        words = line.removeprefix("*").split()
        if words[: len(start)] == list(start):
            return words
    raise AssertionError(f"no row {start} in:\n{text}")


def test_the_title_says_what_was_run_and_that_it_was_simulated() -> None:
    title, simulated, *_ = shown(make_summary(IDS, time_scale=0.02)).splitlines()
    assert title == "synthetic: 3 settings, 3 repeats, 72 workflows, 450 attempts"
    assert simulated == "SIMULATED at time scale 0.02: durations are in scenario seconds"


def test_a_live_run_is_not_called_simulated() -> None:
    text = shown(make_summary(IDS, simulated=False, time_scale=1.0, oracle=None))
    assert "simulat" not in text.lower()
    assert "Measurement: the client was not the bottleneck." in text


def test_a_row_holds_the_cell_s_figures_in_scenario_seconds() -> None:
    summary = make_summary(
        [
            IDS[0],
            make_cell(
                IDS[2], makespan_s=figure(1.5), speedup_over_sync=Figure(value=4, low=3, high=5),
                workflow_latency_s=distribution(0.5, p95=2.0),
                workflows=WorkflowCounts(started=80, ok=77, degraded=2, failed=1),
                attempts=AttemptCounts(
                    total=600, failed=120, by_outcome={"ok": 480, "rate_limited": 99},
                    amplification=1.25,
                ),
            ),
        ],
        time_scale=0.05,
    )  # fmt: skip
    text = shown(summary)
    speed = ["async", "8", "none", "77/80", "30.0", "4.00", "(3.00–5.00)", "10.0", "40.0"]
    assert row(text, "async", "8", "none") == [*speed, "2+1", "1.25", "99"]
    assert row(text, "sync", "1")[-4:] == ["—", "0+0", "1.04", "6"], "no p95 where it has none"


def test_the_time_block_holds_the_shares_in_percent() -> None:
    text = shown(make_summary(IDS))
    block = text[text.index("Where the calls' time went") :]
    assert row(block, "async", "8")[-7:] == ["25", "5", "2", "10", "35", "20", "3"]


def test_the_recommended_cell_alone_is_starred_and_sync_comes_first() -> None:
    text = shown(make_summary([IDS[2], IDS[0], IDS[1]]))
    table = [line for line in text.splitlines() if "/24" in line]
    assert [line.split()[0] for line in table] == ["sync", "*", "async"]
    assert table[1].split()[:3] == ["*", "async", "2"]
    assert "Recommended for the least makespan: async with 2 permits. Its success" in text


def test_the_scope_is_shown_only_where_it_varies() -> None:
    assert "scope" not in shown(make_summary(IDS))
    both = shown(make_summary([*IDS, "async_8_none_call"]))
    assert row(both, "async", "8", "none", "call")
    assert row(both, "async", "8", "none", "attempt")


def test_client_and_provider_are_compared_in_real_milliseconds() -> None:
    said = " ".join(shown(make_summary(IDS)).split())
    assert (
        "Client and provider: 450 attempts matched; first text seen 0.123 ms (p50), "
        "4.56 ms (p99) after it was written, in real time; no mismatch." in said
    )
    assert "Client and provider:" not in shown(make_summary(IDS, oracle=None))


def test_the_verdict_stands_with_its_reason() -> None:
    said = " ".join(shown(make_summary(IDS)).split())
    assert "neither the client nor the simulator was the bottleneck. Timers ran" in said


def test_the_files_are_named_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "summary.json").touch()
    (tmp_path / "plots").mkdir()
    assert shown(make_summary(IDS), tmp_path).endswith(
        f"Files: {tmp_path}\n       summary.json, plots\n"
    )


def test_a_long_directory_is_written_in_one_piece_so_that_it_can_be_copied() -> None:
    long = Path("/" + "/".join(["directory"] * 15))
    assert f"Files: {long}\n" in shown(make_summary(IDS), long)


def test_without_colour_nothing_is_lost() -> None:
    summary = make_summary(IDS)
    plain = shown(summary)
    assert "\x1b" not in plain
    coloured = shown(summary, force_terminal=True, color_system="truecolor")
    assert "\x1b[1m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@st.composite
def any_summary(draw: st.DrawFn) -> Summary:
    """Summaries of every shape: long names, many cells, huge numbers, nothing at all."""
    names = draw(st.lists(st.text("abz-", min_size=1, max_size=40), min_size=1, max_size=4))
    scopes = draw(st.sampled_from([["attempt"], ["attempt", "call"]]))
    value = st.floats(min_value=1e-6, max_value=1e8)
    maybe = st.none() | st.builds(Figure, value=value) | value.map(figure)
    count = st.integers(min_value=0, max_value=10**5)
    cells: list[Cell] = []
    for name in dict.fromkeys(names):
        for scope in scopes:
            mode = draw(st.sampled_from(["sync", "threads", "async"]))
            permits = 1 if mode == "sync" else draw(st.integers(1, 4096))
            latency: Distribution = draw(st.sampled_from([NOTHING, distribution(1.0, 9.0)]))
            cells.append(
                make_cell(
                    f"{mode}_{permits}_{name}_{scope}",
                    makespan_s=draw(maybe), speedup_over_sync=draw(maybe),
                    workflow_latency_s=latency,
                    workflows=WorkflowCounts(
                        started=draw(count), ok=draw(count), degraded=draw(count),
                        failed=draw(count),
                    ),
                    attempts=AttemptCounts(
                        total=draw(count), failed=0, by_outcome={"rate_limited": draw(count)},
                        amplification=draw(st.none() | value),
                    ),
                    time_spent=draw(st.sampled_from([None, make_cell().time_spent])),
                )
            )  # fmt: skip
    return make_summary(cells, time_scale=draw(st.sampled_from([0.01, 1.0])))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_summary())
def test_every_line_fits_80_columns_and_every_cell_keeps_its_numbers(summary: Summary) -> None:
    text = shown(summary)
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for cell in summary.cells:
        assert f"{cell.workflows.ok}/{cell.workflows.started}" in words
        assert f"{cell.workflows.degraded}+{cell.workflows.failed}" in words or not any(
            one.workflows.degraded + one.workflows.failed for one in summary.cells
        )
        assert str(cell.attempts.by_outcome["rate_limited"]) in words
        assert number(cell.attempts.amplification) in words
        if cell.makespan_s:
            assert number(cell.makespan_s.value / summary.time_scale) in words
        if (faster := speedup(cell, summary.cells)) is not None:
            assert number(faster.value) in words
            if faster.low is not None:
                bounds = faster.low, faster.high
                assert f"({number(bounds[0])}–{number(bounds[1])})" in words


@given(
    st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=6), min_size=1, max_size=3),
    st.integers(min_value=21, max_value=60),
)
def test_columns_that_do_not_fit_go_on_in_another_block_and_none_is_lost(
    widths: list[list[int]], room: int
) -> None:
    groups = [[Column("x" * width, "", []) for width in group] for group in widths]
    blocks = pack(groups, room)
    together = [column for group in groups for column in group]
    assert [column for block in blocks for column in block] == together
    assert all(sum(column.width + 1 for column in block) <= room for block in blocks)
    if sum(column.width + 1 for column in together) <= room:
        assert len(blocks) == 1


# Warnings


def test_a_sound_run_has_no_warnings() -> None:
    assert warnings_of(make_summary(IDS)) == []


def test_a_certificate_that_was_not_checked_is_a_warning() -> None:
    (only,) = warnings_of(make_summary(IDS, unverified_tls=True))
    assert only.startswith("endpoint.verify = false: the server's certificate was not checked")


def test_several_models_that_answer_for_one_are_a_warning() -> None:
    (only,) = warnings_of(make_summary(IDS, answered_by={"m": {"m-1": 3, "m-2": 1}}))
    assert only.startswith("requests for m were answered by m-1 (75\u00a0%) and m-2 (25\u00a0%)")


def test_many_lost_connections_name_the_key_that_helps() -> None:
    counts = AttemptCounts(
        total=10, failed=4, by_outcome={"ok": 6, "connection_lost": 4}, amplification=1.0
    )
    cells = [make_cell(IDS[0], attempts=counts)]
    assert warnings_of(make_summary(cells)) == [], "the simulated provider has no such key"
    (only,) = warnings_of(make_summary(cells, endpoint_keys=("reuse_connections",)))
    assert only.startswith("40\u00a0% of the requests lost their connection")
    assert "endpoint.reuse_connections = false" in only


def test_an_empty_run_is_only_unfinished() -> None:
    (only,) = warnings_of(make_summary([], status="partial"))
    assert only.startswith("the run is partial")


@pytest.mark.parametrize(
    ("sufficient", "said"),
    [(2260, "2260 suffice for 99 % of the responses."), (None, "more than 1 % need more")],
)
def test_truncated_reasoning_is_a_warning_with_a_limit(sufficient: int | None, said: str) -> None:
    phase = PhaseReasoning(
        phase="plan", responses=40, share_of_tokens=0.5, share_of_seconds=0.5, truncated=3,
        sufficient_tokens=sufficient,
    )  # fmt: skip
    whole = msgspec.structs.replace(phase, phase="work", truncated=0)
    (only,) = warnings_of(make_summary(IDS, reasoning=(whole, phase)))
    assert only.startswith("3 of 40 responses of phase plan reached max_tokens")
    assert said in only


@pytest.mark.parametrize("limited", ["client", "simulator"])
def test_a_bottleneck_of_our_own_is_a_warning_with_a_way_out(limited: str) -> None:
    verdict = make_summary([]).verdict
    changed = verdict.__class__(
        bottleneck=limited, because=("It was late.",), event_loop_lag_s=None,
        client_cpu_share=None, provider_lateness_s=None, clock_disagreement_s=None,
    )  # fmt: skip
    summary = make_summary(IDS, verdict=changed)
    (only,) = warnings_of(summary)
    assert only.startswith(f"the {limited} limited some of the results")
    assert only.endswith("use fewer permits, or a less busy machine."), "no key of another endpoint"
    known = msgspec.structs.replace(summary, endpoint_keys=("kind", "time", "time_scale"))
    (only,) = warnings_of(known)
    assert 'provider; set endpoint.time = "virtual", set a larger endpoint.time_scale' in only
    threads = msgspec.structs.replace(known, cells=(make_cell("threads_2_none_attempt"),))
    assert '"virtual"' not in warnings_of(threads)[0], "virtual time has no threads"
    said = " ".join(shown(summary).split())
    assert f"Measurement: the {limited} was the bottleneck: some figures describe it" in said
    assert "It was late." in said


@pytest.mark.parametrize(
    ("outcome", "advice"),
    [
        ("unavailable", "check the server, or retry for longer."),
        ("rate_limited", "use fewer permits, or retry for longer."),
        ("blank_body", "retries did not help."),
        ("unauthorized", "with your own endpoint: check the API key."),
    ],
)
def test_advice_after_retries_is_not_to_retry_with_backoff(outcome: str, advice: str) -> None:
    none = WorkflowCounts(started=24, ok=0, degraded=0, failed=24)
    attempts = AttemptCounts(total=72, failed=72, by_outcome={outcome: 72}, amplification=3.0)
    cell = make_cell(IDS[2], workflows=none, attempts=attempts, success_rate=Figure(value=0.0))
    assert run_answer(make_summary([cell])).reason.endswith(advice)
    once = msgspec.structs.replace(attempts, amplification=1.0)
    cell = msgspec.structs.replace(cell, attempts=once)
    said = run_answer(make_summary([cell])).reason
    assert "for longer" not in said
    assert "did not help" not in said


def test_lost_workflows_name_the_worst_cell_the_failure_and_what_to_do() -> None:
    counts = WorkflowCounts(started=24, ok=6, degraded=0, failed=18)
    attempts = AttemptCounts(
        total=100, failed=40, by_outcome={"ok": 60, "rate_limited": 30, "unavailable": 10},
        amplification=1.4,
    )  # fmt: skip
    rate = Figure(value=0.25)
    worst = make_cell(IDS[2], workflows=counts, attempts=attempts, success_rate=rate)
    (only,) = warnings_of(make_summary([IDS[0], IDS[1], worst]))
    assert only == (
        "async 8 lost 18 of 24 workflows. Its most frequent failure: rate limited (429), 30 "
        "requests; use fewer permits, or retry for longer."
    )
    counts = WorkflowCounts(started=24, ok=23, degraded=0, failed=1)
    less = make_cell(IDS[1], workflows=counts, success_rate=Figure(value=23 / 24))
    (only,) = warnings_of(make_summary([IDS[0], less, worst]))
    assert only.startswith(
        "2 of 3 settings lost workflows, most of all async 8 (18 of 24 workflows). Its most"
    )


@pytest.mark.parametrize("mode", ["sync", "serial"])
def test_the_head_of_the_speed_up_names_its_baseline(mode: str) -> None:
    cells = [make_cell(IDS[0].replace("sync", mode)), make_cell(IDS[2])]
    heads = [column.head for column in terminal_table("speed", cells, make_summary(cells))]
    assert f"speed-up over\n{mode} (95 %)" in heads


def test_a_long_title_is_broken_at_the_width() -> None:
    summary = make_summary(IDS, scenario="a-scenario-whose-name-is-rather-long-" * 2)
    file = io.StringIO()
    render_summary(summary, Path("results/x"), Console(file=file, width=80))
    assert all(len(line) <= 80 for line in file.getvalue().splitlines()[:4])


def test_settings_that_all_lost_as_much_are_not_ranked() -> None:
    counts = WorkflowCounts(started=24, ok=6, degraded=0, failed=18)
    cells = [make_cell(name, workflows=counts, success_rate=Figure(value=0.25)) for name in IDS]
    (only,) = warnings_of(make_summary(cells))
    assert only.startswith(f"all {len(cells)} settings lost 18 of 24 workflows each.")


def test_workflows_that_took_too_long_are_said_to_be_late() -> None:
    late = make_cell(IDS[2], late=4)
    (only,) = warnings_of(make_summary([IDS[0], IDS[1], late]))
    assert only.startswith("async 8 lost 4 of 24 workflows, 4 of which took too long. Its most")


def test_a_workflow_that_an_interruption_cut_short_is_not_called_lost() -> None:
    cut = make_cell(IDS[2], workflows=WorkflowCounts(started=5, ok=4, degraded=0, failed=0))
    (only,) = warnings_of(make_summary([IDS[0], IDS[1], cut], status="partial"))
    assert only.startswith("the run is partial")


def test_a_mismatch_with_the_provider_is_a_warning_and_stands_in_its_line() -> None:
    oracle = Oracle(
        attempts=10, unmatched=4, outcome_mismatches=2, token_mismatches=1, first_text_s=None,
        inter_token_p50_s=None,
    )  # fmt: skip
    summary = make_summary(IDS, oracle=oracle)
    (only,) = warnings_of(summary)
    assert only.startswith("client and provider disagree on 3 attempts")
    said = " ".join(shown(summary).split())
    assert "4 unmatched, 2 with another outcome, 1 with other token counts." in said


def test_one_repeat_is_a_warning_and_no_sync_is_none() -> None:
    (once,) = warnings_of(make_summary([make_cell(IDS[1], repeats=1)]))
    assert once.endswith("set sweep.repeats=auto.")


def test_cells_that_met_other_caches_are_not_on_a_par() -> None:
    def cached(cell: str, tokens: int) -> Cell:
        counts = TokenCounts(input=1000, output=1, reasoning=1, cached=tokens, wasted=0)
        return make_cell(cell, tokens=counts)

    assert not warnings_of(make_summary([cached(IDS[0], 0), cached(IDS[1], 40)]))
    (only,) = warnings_of(make_summary([cached(IDS[0], 0), cached(IDS[1], 900)]))
    assert "0\u00a0% of the input in sync but 90\u00a0% in async 2" in only
    assert "\u00a0" not in shown(make_summary([cached(IDS[0], 0), cached(IDS[1], 900)]))


def test_responses_without_usage_are_warned_of() -> None:
    counts = TokenCounts(input=0, output=0, reasoning=0, cached=0, wasted=0, unreported=3)
    (only,) = warnings_of(make_summary([make_cell(IDS[0]), make_cell(IDS[1], tokens=counts)]))
    assert only.startswith("3 whole responses had no usage, so tokens and cost are too low")


def test_no_recommendation_is_said_to_be_none() -> None:
    nothing = Recommendation(
        state="open", objective="workflow_p95", because=("No setting has so many.",),
    )  # fmt: skip
    text = shown(make_summary(IDS, recommendation=nothing))
    assert "No setting can be recommended - No setting has" in " ".join(text.split())
    assert "none" not in text[text.index("Measurement:") :]
    assert "* recommended" not in text


def test_the_reasons_of_a_recommendation_are_a_list_that_names_cells_as_the_table_does() -> None:
    because = (f"The closest of the other settings, {IDS[1]}, takes 2.32 times as long as it.",) * 2
    advice = Recommendation(
        state="proven", cell=IDS[2], candidate=IDS[2], objective="makespan", because=because
    )
    lines = shown(make_summary(IDS, recommendation=advice)).splitlines()
    item = "  - The closest of the other settings, async 2, takes 2.32 times as long as it."
    assert lines.count(item) == 2


def test_a_whole_run_is_told_from_its_records() -> None:
    records = make_records(
        (*IDS, "async_8_full-jitter_call"), 2, shape=Shape(failure_rate=0.2), time_scale=0.02
    )
    summary = summarise(records)
    text = shown(summary)
    assert max(map(len, text.splitlines())) <= 80
    for cell in summary.cells:
        assert cell.makespan_s
        words = row(text, cell.mode, str(cell.permits), cell.retry)
        assert number(cell.makespan_s.value / 0.02) in words


def test_what_was_cut_off_an_open_loop_is_said_and_a_load_that_never_was_steady_is_warned_of() -> (
    None
):
    steady, grows = (
        make_cell(f"async_{permits}_none_attempt", warm_up=cut)
        for permits, cut in ((8, 5), (2, 12))
    )
    said = " ".join(shown(make_summary([grows, steady])).split())
    assert (
        "Warm-up excluded from latencies and shares (MSER-5): async 2 12 of 24, async 8 5" in said
    )
    assert "no steady state in async 2: workflows arrive faster than they end" in said
