"""What a tune shows at its end: its cost, what it ruled out and when, and how settings compare."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.analysis.model import (
    BlocksMean,
    Figure,
    Rival,
    SettlesWith,
    Summary,
    TuneChange,
    TunedSetting,
)
from harness.analysis.proofs import Proof
from harness.analysis.summary import summarise
from harness.analysis.tuned import bound_in_words, share_in_words, without_proof
from harness.analysis.verdict import VIRTUAL_VERDICT
from harness.records.clock import SECOND
from harness.report.answer_text import run_answer
from harness.report.charts.model import Chart, CurvePanel
from harness.report.charts.tuned_settings import tuned_settings
from harness.report.console import Output
from harness.report.first_screen import first_screen
from harness.report.next_steps import Rerun, next_steps
from harness.report.screen_table import ranked
from harness.report.terminal import render_summary
from harness.report.tune_proof import proven_text
from harness.report.tune_text import PROVEN, block_line, tune_cost
from harness.report.wording import dropped_text
from tests.report.html.reading import read, rows_of
from tests.report.subjects import about, render_report
from tests.report.test_first_screen import advice
from tests.tune.played import BEST, BLOCKS, TRIED, UNTRIED, tune_records

RECORDS = tune_records()
HERE = Path("results/tuned")


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(RECORDS)


def settings_of_tune(summary: Summary) -> dict[str, TunedSetting]:
    assert summary.tune is not None
    return {one.info.id: one for one in summary.tune.settings}


def makespan(cell: str, repeat: int) -> float:
    (trial,) = (one for one in RECORDS.trials if (one.cell, one.repeat) == (cell, repeat))
    return (trial.end - trial.start) / SECOND


def test_the_grid_counts_the_measured_trials_and_one_attempt_for_each_call() -> None:
    records = tune_records(failure_rate=0.3)
    tune = summarise(records).tune
    assert tune is not None
    measured = sum(
        sum(one.cell == name for one in records.attempts)
        / sum(one.cell == name for one in records.trials)
        for name in TRIED
    )
    ok = {(one.cell, one.repeat, one.workflow) for one in records.workflows if one.outcome == "ok"}
    calls = sum((one.cell, one.repeat, one.workflow) in ok for one in records.calls) / len(ok)
    untried = len(UNTRIED) * records.run.scenario["load"]["workflows"] * calls
    assert tune.grid_attempts == pytest.approx(tune.grid_repeats * (measured + untried), abs=1)
    assert tune.attempts == len(records.attempts) > len(records.calls)
    assert tune.attempts < tune.grid_attempts


def test_settings_are_compared_in_the_blocks_that_they_share(summary: Summary) -> None:
    settings = settings_of_tune(summary)
    assert summary.recommendation.candidate == BEST
    for name in TRIED:
        common = [at for at, cells in enumerate(BLOCKS) if {name, BEST} <= set(cells)]
        logs = [math.log(makespan(name, at) / makespan(BEST, at)) for at in common]
        against = settings[name].against
        assert against is not None
        assert math.log(against.value) == pytest.approx(sum(logs) / len(logs))
    assert all(settings[name].against is None for name in UNTRIED)


def test_a_setting_is_ruled_out_since_the_block_from_which_on_it_was(summary: Summary) -> None:
    settings = settings_of_tune(summary)
    said = {name: (one.ruled_out, one.since) for name, one in settings.items()}
    assert said == {
        TRIED[0]: ("slower", 1), BEST: (None, None), TRIED[2]: ("slower", 2),
        UNTRIED[0]: ("same", 1), UNTRIED[1]: (None, None), UNTRIED[2]: ("slo", 1),
    }  # fmt: skip
    assert (settings[TRIED[2]].bound, settings[UNTRIED[2]].bound) == (1.02, 0.2)


def test_what_was_expected_earlier_is_put_to_the_work_of_all_blocks(summary: Summary) -> None:
    settings = settings_of_tune(summary)
    # The leading setting was expected at 20, and at 40 in the last block: twice as much work.
    expected = {name: one.expected for name, one in settings.items()}
    values = {name: one.value for name, one in expected.items() if one is not None}
    assert values == pytest.approx(
        {TRIED[0]: 20, BEST: 40, TRIED[2]: 44, UNTRIED[0]: 80, UNTRIED[1]: 42, UNTRIED[2]: 120}
    )


def test_steps_say_what_was_tried_left_and_spent(summary: Summary) -> None:
    assert summary.tune is not None
    steps = summary.tune.steps
    assert [step.cells for step in steps] == [*BLOCKS, ()]
    assert [step.left for step in steps] == [6, 3, 2, 2]
    assert [step.attempts for step in steps] == [
        *(sum(one.repeat == block for one in RECORDS.attempts) for block in range(3)), 0
    ]  # fmt: skip
    assert sum(step.attempts for step in steps) == summary.tune.attempts


def test_a_run_that_is_no_tune_has_none_of_this() -> None:
    plain = RECORDS._replace(run=replace(RECORDS.run, tuned=False))
    assert summarise(plain).tune is None


def screen(summary: Summary, width: int) -> str:
    return "\n".join(map(str, first_screen(summary, HERE, width)))


@pytest.mark.parametrize("width", [80, 120])
def test_the_first_screen_says_the_cost_and_compares_within_blocks(
    summary: Summary, width: int
) -> None:
    text = screen(replace(summary, verdict=VIRTUAL_VERDICT), width)
    assert summary.tune is not None
    whole = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) <= 24
    assert (
        f"{summary.tune.attempts} requests; the full grid, 6 settings with 5 repeats, would take "
        "about " in whole
    )
    assert (
        "Of 3 settings that were not tried, 1 loses too many workflows at a twin of the provider, "
        "1 is the same as a tried one, 1 is not ruled out." in whole
    )
    assert "3 of 6 settings tried" in whole
    assert "times as long: as *, in the same blocks" in whole
    against = settings_of_tune(summary)[TRIED[0]].against
    assert against is not None
    (row,) = (line for line in text.splitlines() if line.startswith("  async 2 "))
    assert row.split()[2] == f"{against.value:.2f}"


def test_a_cost_is_rounded_as_it_is_an_estimate(summary: Summary) -> None:
    assert summary.tune is not None
    tune = replace(summary.tune, attempts=1234, grid_attempts=43210)
    assert tune_cost(tune).startswith("1,234 requests;")
    assert tune_cost(tune).endswith("would take about 43,000.")


def test_the_grid_is_not_estimated_before_a_trial_has_ended(summary: Summary) -> None:
    assert summary.tune is not None
    assert tune_cost(replace(summary.tune, attempts=1, grid_attempts=0)) == "1 request."


def test_all_results_have_a_line_for_each_block(summary: Summary) -> None:
    output = Output(width=80, force_terminal=False)
    with output.capture() as capture:
        render_summary(summary, HERE, output)
    said = " ".join(capture.get().split())
    assert "block 1: 6 settings left; async 2 · full-jitter, async 4 · full-jitter" in said
    assert (
        "block 2: 3 settings left (ruled out for good: 1 too slow, 1 below the SLO, 1 the same as "
        "another)" in said
    )
    assert "end: 2 settings left; at the end of the test" in said


def drawn(summary: Summary) -> tuple[Chart, CurvePanel]:
    chart = tuned_settings(about(summary, RECORDS))
    assert chart is not None
    (panel,) = chart.panels
    assert isinstance(panel, CurvePanel)
    return chart, panel


def test_the_chart_has_what_is_expected_measured_and_ruled_out(summary: Summary) -> None:
    chart, panel = drawn(summary)
    settings = settings_of_tune(summary)
    loose = [one for one in panel.series if one.shape == "loose"]
    grey = [point for one in loose if one.look == "pale" for point in one.points]
    crosses = [point for one in loose if one.look == "dark" for point in one.points]
    others = [point for one in loose if one.look not in ("pale", "dark") for point in one.points]
    assert sorted(point.y for point in grey) == pytest.approx([20, 44, 80, 120])
    assert [point.hollow for point in grey].count(True) == 1
    assert sorted((point.y, point.ringed) for point in others) == [(40, True), (42, False)]
    mine = settings[BEST].measured
    assert mine is not None
    ratios = [one.value if (one := settings[name].against) else math.nan for name in TRIED]
    assert [point.y for point in crosses] == pytest.approx([mine.value * one for one in ratios])
    assert {one.name for one in panel.series if one.shape == "line"} == {"full-jitter", "none"}
    assert [one.name for one in panel.series if one.shape == "dashed"] == ["misses the SLO"]
    assert "4 of 6 settings are ruled out, 3 without a trial" in chart.finding
    assert len(chart.table.columns[0].values) == 6


def with_limit(summary: Summary, name: str) -> Summary:
    """Return the summary with one of its settings as a limit that adapts."""
    assert summary.tune is not None
    settings = tuple(
        replace(one, info=replace(one.info, limiter="elastic", permits=100))
        if one.info.id == name
        else one
        for one in summary.tune.settings
    )
    return replace(summary, tune=replace(summary.tune, settings=settings))


def test_a_limit_that_adapts_is_drawn_right_of_the_numbers(summary: Summary) -> None:
    """The recommended setting, a measured one and one that misses the SLO are drawn alike."""
    for name, shape, hollow in ((BEST, "line", False), (UNTRIED[2], "dashed", True)):
        chart, panel = drawn(with_limit(summary, name))
        (edge,) = panel.verticals
        beyond = [
            (one, point) for one in panel.series for point in one.points if point.x > edge.value
        ]
        known = settings_of_tune(summary)[name]
        assert known.expected is not None
        short, marks = (
            [(one, point) for one, point in beyond if (one.shape == "loose") == is_mark]
            for is_mark in (False, True)
        )
        assert [(one.shape, point.y) for one, point in short] == [
            (shape, known.expected.value)
        ] * 2  # fmt: skip
        assert {one.look for one, _ in short} <= {"blue", "orange"}
        mark, *crosses = [point for _, point in marks]
        assert (mark.y, mark.low, mark.high, mark.hollow, mark.ringed) == (
            known.expected.value, known.expected.low, known.expected.high, hollow, name == BEST
        )  # fmt: skip
        assert [point.y for point in crosses] == (
            [] if known.measured is None else [known.measured.value]
        )
        assert panel.x.ticks[-1].text == "elastic"
        assert any("limits that adapt" in note for note in chart.notes)
        joined = [one for one in panel.series if one.shape == "line"]
        across = [one for one in joined if {p.x > edge.value for p in one.points} == {True, False}]
        assert not across, "no line joins numbers and limits"


def test_no_other_run_has_the_chart(summary: Summary) -> None:
    assert tuned_settings(about(replace(summary, tune=None), RECORDS)) is None


def test_the_report_has_the_chart_the_blocks_and_the_paired_column(summary: Summary) -> None:
    page = read(render_report(summary, RECORDS))
    section = page.one("section", id="tuned")
    assert section.one("figure", id="tuned-settings")
    blocks = rows_of(section.every("table")[-1])
    assert list(blocks) == ["1", "2", "3", "end"]
    assert blocks["2"]["settings left"] == "3"
    assert blocks["2"]["requests"] == str(sum(one.repeat == 1 for one in RECORDS.attempts))
    answers = rows_of(page.one("section", id="answer").one("table"))
    assert answers["async 4"]["times as long"] == "1.00"
    assert "3 of 6 settings tried" in page.text
    assert "compared only in the blocks that both ran" in page.one("section", id="compared").text


def test_what_would_prove_it_is_a_longer_tune(summary: Summary) -> None:
    settles = SettlesWith(missing="both", max_repeats=20, workflows=80)
    open_one = replace(
        summary, recommendation=advice("open", BEST, settles_with=settles), virtual=True
    )
    (first, *_) = next_steps(open_one, HERE, Rerun("mine.toml", verb="tune", blocks=19))
    assert first.command == "harness tune mine.toml --set tune.max_blocks=20"
    budget = Rerun("mine.toml", budget={"attempts": 1}, verb="tune", blocks=24)
    (first, *_) = next_steps(open_one, HERE, budget)
    assert first.command.startswith("harness tune mine.toml --set budget.attempts=")
    (first, *_) = next_steps(open_one, HERE, budget._replace(budget={}))
    assert first.command.startswith("harness report"), "the same tune would say the same"
    whole = " ".join(screen(open_one, 80).split())
    assert "a new tune of at most 20 blocks would probably prove both" in whole


def test_what_shares_no_block_with_the_candidate_is_measured_by_the_work_of_its_blocks() -> None:
    first = TRIED[0]
    tune = [replace(block, work=(0.5, 1.0, 2.0)) for block in RECORDS.tune]
    with_work = settings_of_tune(summarise(RECORDS._replace(tune=tune)))
    blocks = [at for at, cells in enumerate(BLOCKS) if BEST in cells]
    logs = [math.log(makespan(BEST, at) / (0.5, 1.0, 2.0)[at]) for at in blocks]
    mine = with_work[BEST].measured
    assert mine is not None
    assert math.log(mine.value) == pytest.approx(sum(logs) / len(logs))
    # Without the candidate's trial of the block that the other one has, they share none.
    apart = RECORDS._replace(
        tune=tune,
        trials=[one for one in RECORDS.trials if (one.cell, one.repeat) != (BEST, 0)],
    )
    other = settings_of_tune(summarise(apart))[first]
    assert other.against is None
    assert other.measured is not None
    assert other.measured.value == pytest.approx(makespan(first, 0) / 0.5)


def test_settings_are_ranked_by_what_they_take_for_the_same_work(summary: Summary) -> None:
    settings = settings_of_tune(summary)
    assert summary.tune is not None
    slow = replace(settings[TRIED[2]], measured=Figure(value=99.0))
    quick = replace(settings[TRIED[0]], measured=Figure(value=98.0))
    tune = replace(summary.tune, settings=(slow, settings[BEST], quick))
    ranks = [cell.id for cell in ranked(replace(summary, tune=tune))]
    assert ranks == [BEST, TRIED[0], TRIED[2]]


def proven(summary: Summary, **reasons: tuple[str, float]) -> Summary:
    """Return the summary with its candidate proven; `reasons`: of settings, by their number."""
    assert summary.tune is not None
    settings = []
    for at, one in enumerate(summary.tune.settings):
        known = reasons.get(f"_{at}")
        if known is not None:
            settings.append(replace(one, ruled_out=known[0], bound=known[1]))
        else:
            settings.append(replace(one, ruled_out="same" if one.info.id != BEST else None))
    rival = Rival(cell=TRIED[2], ratio=Figure(value=1.1), place="behind", preferred_by=None)
    said = advice("proven", BEST, rivals=(rival,))
    tune = replace(summary.tune, settings=tuple(settings))
    return replace(summary, tune=tune, recommendation=said, virtual=True)


def test_an_answer_tells_what_trials_prove_from_what_a_twin_rules_out(summary: Summary) -> None:
    assert summary.tune is not None
    number = {one.info.id: f"_{at}" for at, one in enumerate(summary.tune.settings)}
    untried = {number[UNTRIED[0]]: ("slower", 1.126), number[UNTRIED[2]]: ("slo", 0.2)}
    compared = proven(summary, **untried, **{number[TRIED[2]]: (None, 1.0)})  # type: ignore[arg-type]
    answer = run_answer(compared)
    assert (
        "the other setting that trials compared with it is not faster by more than 2\u00a0% (both "
        "proven)" in answer.sentence
    )
    assert answer.reason.startswith(
        "A twin of the provider ruled out 2 settings without a trial (1 is at least 1.13 times as "
        "slow; 1 keeps at most 20 % of workflows)."
    )
    assert "not tried" not in screen(compared, 80), "it is said once"
    assert proven_text(compared).startswith("Its success rate, and its lead over 1 setting, are")

    slower = {number[UNTRIED[0]]: ("slower", 1.0), number[TRIED[2]]: ("slower", 1.4)}
    guessed = run_answer(proven(summary, **slower))
    assert (
        "(proven), and of the others that keep as much, a twin of the provider expects none to be "
        "faster by more than 2\u00a0% (not proven)" in guessed.sentence
    )
    assert "1 setting without a trial (it is not faster) and 1 after a few" in guessed.reason
    assert "its lead is not" in proven_text(proven(summary, **slower))

    few = run_answer(proven(summary, **{number[TRIED[2]]: ("slower", 1.4)}))
    assert "none was faster by more than 2\u00a0% in a few trials (not proven)" in few.sentence
    assert "1 setting was ruled out after a few trials, too few for a proof." in few.reason

    shared = proven(summary, **{number[TRIED[2]]: ("slower", 1.4)})
    assert shared.tune is not None
    alone = [replace(one, against=None) for one in shared.tune.settings]
    apart = replace(shared, tune=replace(shared.tune, settings=tuple(alone)))
    assert "a twin of the provider expects none to be faster" in run_answer(apart).sentence
    assert (
        "A twin of the provider ruled out 1 setting: its trials are in other blocks"
        in run_answer(apart).reason
    )

    whole = run_answer(proven(summary))
    assert "twin" not in whole.sentence + whole.reason
    assert "(both proven)" in whole.sentence


def test_the_answer_names_each_key_that_could_have_been_chosen(summary: Summary) -> None:
    """Also where the settings that were tried do not differ in it."""
    assert summary.tune is not None
    assert "permit per attempt" not in run_answer(proven(summary)).sentence
    other = summary.tune.settings[0]
    other = replace(other, info=replace(other.info, id="other", permit_scope="call"), trials=0)
    tune = replace(summary.tune, settings=(*summary.tune.settings, other))
    assert "permit per attempt" in run_answer(replace(proven(summary), tune=tune)).sentence


def test_the_recommendation_says_which_lead_trials_do_not_prove(summary: Summary) -> None:
    last = RECORDS.tune[-1]
    assert without_proof(last, {}, TRIED) == (
        "Its lead over 3 settings is not proven by trials: a twin of the provider ruled out 1 "
        "without a trial, and 2 after a few trials."
    )
    broken: dict[str, Proof] = {TRIED[0]: "broken", UNTRIED[2]: "broken"}
    assert without_proof(last, broken, TRIED) == (
        "Its lead over 1 setting is not proven by trials: it was ruled out after a few."
    )
    assert without_proof(replace(last, ruled_out=()), {}, TRIED) == ""
    said = " ".join(summary.recommendation.because)
    assert f"the closest, {UNTRIED[2]}, keeps at most 20 % of the workflows" in said
    assert "1 setting does the same as one that was measured" in said


@pytest.mark.parametrize(
    ("bound", "objective", "said"),
    [
        (1.126, "makespan", "at least 1.13 times as slow"),
        (1.001, "makespan", "not faster"),
        (0.985, "cost_per_successful_workflow", "at most 1.5 % cheaper"),
        (2.0, "cost_per_successful_workflow", "at least 2 times as expensive"),
    ],
)
def test_a_bound_is_a_predicate(bound: float, objective: str, said: str) -> None:
    assert bound_in_words(bound, objective) == said


def test_a_share_that_is_rounded_to_the_required_one_is_less() -> None:
    assert share_in_words(0.8997, 0.9) == "less than 90 %"
    assert share_in_words(0.8997, None) == "at most 90 %"


def test_progress_has_labels_and_names_a_provider_that_changed(summary: Summary) -> None:
    labels = {name: f"label {at}" for at, name in enumerate((*TRIED, *UNTRIED))}
    assert "block 1: label 0, label 1, label 2; 6 settings left" in block_line(
        RECORDS.tune[0], labels
    )
    end = replace(RECORDS.tune[-1], end=PROVEN)
    assert block_line(end, labels).endswith("the tune ends: proven")
    mean = BlocksMean(blocks=(0,), value=1.0, of=12)
    change = TuneChange(cell=BEST, quantity="success", before=mean, after=mean, alike=())
    assert block_line(end, labels, change).endswith("so its trials prove no setting")


def test_a_setting_of_a_tune_is_dropped_after_a_block(summary: Summary) -> None:
    cell = replace(summary.cells[0], dropped_after=3)
    assert dropped_text(cell, summary) == "after block 3"
    assert dropped_text(cell, replace(summary, tune=None)) == "after 3 repeats"
    assert dropped_text(replace(cell, dropped_after=None), summary) == ""


def test_all_texts_have_labels_of_settings_that_were_not_tried(summary: Summary) -> None:
    output = Output(width=80, force_terminal=False)
    with output.capture() as capture:
        render_summary(summary, HERE, output)
    page = read(render_report(summary, RECORDS)).one("section", id="answer").text
    for text in (capture.get(), page):
        assert UNTRIED[2] not in text.split("Code for")[0]
        assert "16 · none" in text.replace("\u00a0", " ")
