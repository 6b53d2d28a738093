"""A provider that changes between the blocks of a tune, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.analysis import recommend
from harness.analysis.decision import Judgement
from harness.analysis.model import BlocksMean, Summary, TuneChange
from harness.analysis.proofs import Proof
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.analysis.tuned import without_lead
from harness.bench import inline_executor, runner, virtual
from harness.bench.cells import expand
from harness.bench.race import TrialBatch
from harness.bench.resume import RunProgress
from harness.bench.scenario_file import parse_scenario
from harness.records.tune_blocks import TuneBlock, TuneRuledOut
from harness.report.answer_text import run_answer
from harness.report.first_screen import first_screen
from harness.report.html.tuning import tuning
from harness.report.next_steps import Rerun, next_steps
from harness.report.tune_text import changed_provider
from harness.simulator.profiles import load_profile
from harness.tune.candidates import tune_scenario
from tests.report.html.reading import read
from tests.report.subjects import render_report
from tests.tune.test_tunes import SCENARIO

FOUR, SIX, TWELVE = (f"async_{permits}_patient_attempt" for permits in (4, 6, 12))
BLOCKS = ((FOUR, TWELVE, SIX), (SIX,), (SIX,), (SIX, FOUR), (SIX,), (SIX,))
"""The settings that each block tries; the provider changes before the fourth."""
RULED_OUT = tuple(TuneRuledOut(cell=cell, because="slower", bound=1.1) for cell in (FOUR, TWELVE))

Changes = Callable[[int], dict[str, Any]]


def tuned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: Changes, slo: str = "0.9"
) -> Dataset:
    """Run the blocks. `changes`: the keys of the profile that differ in a block."""
    play = virtual.play

    def play_at(begun: RunProgress, task: Any, *others: Any) -> Any:
        profile = {**(begun.run.profile or {}), **changes(task.repeat)}
        return play(begun._replace(run=replace(begun.run, profile=profile)), task, *others)

    def plan(
        begun: RunProgress, directory: Path, record: Callable[[TuneBlock], None]
    ) -> Iterator[TrialBatch]:
        cells = {cell.id: cell for cell in begun.run.cells}
        for number, names in enumerate((*BLOCKS, ())):
            record(TuneBlock(
                block=number, cells=names, leading=SIX, regret=0.0, open=(), ruled_out=RULED_OUT,
                outlooks=(), attempts=0, reason="", end="" if names else "the end of the test",
            ))  # fmt: skip
            if names:
                yield TrialBatch([(cells[name], number) for name in names], frozenset(cells), 0)

    monkeypatch.setattr(inline_executor, "play", play_at)
    text = SCENARIO.replace("max_blocks = 4", "max_blocks = 8")
    text = text.replace("success_rate = 0.9", f"success_rate = {slo}")
    scenario = tune_scenario(parse_scenario(text + "[budget]\nattempts = 9000\n", "x"), "x")
    endpoint: Any = scenario.endpoint
    simulation = endpoint.facts.simulation
    profile = load_profile(simulation.profile, simulation.overrides).as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    hooks = runner.Hooks(*[lambda *_: None] * len(runner.Hooks._fields))
    runner.run(scenario, profiles, {}, folder, hooks, plan=plan)
    return Dataset.read(folder)


def halved(block: int) -> dict[str, Any]:
    return {"concurrency_cap": 3} if block >= 3 else {}


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Summary, Dataset]:
    records = tuned(tmp_path, monkeypatch, halved)
    return summarise(records), records


def test_a_cap_that_falls_is_told_in_the_answer_with_its_blocks(
    changed: tuple[Summary, Dataset],
) -> None:
    summary, records = changed
    assert summary.tune is not None
    change = summary.tune.changed
    assert change is not None
    assert (change.cell, change.before.blocks[0]) == (SIX, 0)
    assert (change.before.blocks, change.after.blocks) == ((0, 1, 2), (3, 4, 5))
    said = changed_provider(summary)
    assert "in blocks 1 to 3 and " in said
    assert "the provider changed between blocks 3 and 4" in said
    assert said.endswith("run the tune again, or choose a limit that adapts (docs/limits.md).")
    answer = run_answer(summary)
    assert said in answer.reason
    assert "would probably prove" not in answer.reason
    page = read(render_report(summary, records))
    assert said in page.one("section", id="answer").text
    section = tuning(summary)
    assert section is not None
    assert section.changed == said
    assert said in page.one("section", id="tuned").text


def test_nothing_is_proven_of_settings_that_met_two_providers(
    changed: tuple[Summary, Dataset],
) -> None:
    summary, _ = changed
    found = summary.recommendation
    assert (found.state, found.cell, found.candidate) == ("leading", None, SIX)
    assert found.settles_with is not None
    assert found.settles_with.missing == "lead"
    assert found.settles_with.max_repeats is None
    assert any("changed between block 3 and block 4" in one for one in found.because)


def test_the_next_step_is_a_new_tune_and_the_screen_stays_short(
    changed: tuple[Summary, Dataset],
) -> None:
    summary, _ = changed
    steps = next_steps(summary, Path("results/x"), Rerun("mine.toml", verb="tune"))
    assert any(step.command == "harness tune mine.toml" for step in steps)
    lines = [str(line) for line in first_screen(summary, Path("results/x"), 80)]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_an_answer_that_was_proven_is_not_where_the_provider_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tuned(tmp_path, monkeypatch, lambda _: {}, slo="0.5")
    plain = summarise(records).recommendation
    assert (plain.state, plain.cell) == ("proven", SIX)
    mean = BlocksMean(blocks=(0,), value=1.0, of=12)
    change = TuneChange(
        cell=SIX, quantity="success", before=mean, after=replace(mean, blocks=(3,)), alike=()
    )
    monkeypatch.setattr(recommend, "provider_change", lambda *_: change)
    found = summarise(records).recommendation
    assert (found.state, found.cell, found.candidate) == ("leading", None, SIX)


@pytest.mark.parametrize(("proof", "state"), [("proven", "leading"), ("open", "open")])
def test_a_proof_of_the_lead_is_withdrawn_and_one_of_the_success_rate_is_not(
    proof: Proof, state: str
) -> None:
    proven = Judgement(
        state="proven", cell=SIX, candidate=SIX, proofs={SIX: proof}, settled=True, equal=(SIX,),
        rival=None, exercised=True, dropped={}, is_final=True,
    )  # fmt: skip
    found = without_lead(proven)
    assert (found.state, found.cell, found.candidate) == (state, None, SIX)
    assert (found.settled, found.equal, found.is_final) == (False, (), False)


@pytest.mark.parametrize(
    "changes",
    [
        lambda _: {},
        # An outage in a late block is no other provider: its trials are left out.
        lambda block: {
            "faults": [{"kind": "unavailable", "outage": {"start": "1s", "duration": "6s"}}]
        }
        if block > 3
        else {},
    ],
)  # fmt: skip
def test_a_provider_that_stays_the_same_is_not_said_to_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Changes
) -> None:
    summary = summarise(tuned(tmp_path, monkeypatch, changes))
    assert summary.tune is not None
    assert summary.tune.changed is None
    assert changed_provider(summary) == ""
    assert "met different providers" not in run_answer(summary).reason
