"""What a tune did, in words: a line for each decision, what it cost, and what it ruled out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, assert_never

from harness.analysis.model import (
    BlocksMean,
    Summary,
    TuneChange,
    TunedSetting,
    TuneStep,
    TuneSummary,
)
from harness.analysis.tuned import bound_in_words
from harness.records.schema import Stop
from harness.records.tune_blocks import TuneBlock
from harness.report.answer_claims import in_words
from harness.report.wording import cell_labels, counted, number, percent, sentence

PROVEN = "proven"
"""The `end` of a tune whose trials prove a setting, if the provider did not change."""

_Reason = Literal["slower", "slo", "same", "dropped"]


def block_line(
    block: TuneBlock, labels: Mapping[str, str], changed: TuneChange | None = None
) -> str:
    """Return one line about a decision: what is tried, what is left and spent, and why.

    `labels`: of all settings, by id. `changed`: how the provider changed so far.
    """
    number = f"block {block.block + 1}"
    spent = f"{block.attempts:,} requests so far"
    left = counted(len(block.open) + bool(block.leading), "setting")
    if block.end:
        why = _end_in_words(block.end, changed)
        return f"{number}: none, {left} left, {spent}; the tune ends: {why}"
    tried = ", ".join(labels[name] for name in block.cells)
    return f"{number}: {tried}; {left} left, {spent}; {block.reason}"


def tune_cost(tune: TuneSummary, stopped: Stop | None = None) -> str:
    """Return what a tune cost, beside the full grid, and the budget that ended it.

    `stopped`: why the run is partial. Before a trial has ended, nothing is known of the grid.
    """
    spent = counted_requests(tune.attempts)
    if stopped is not None and stopped.by == "budget":
        because = stopped.because.partition(";")[0]
        spent = f"The budget ended the tune: {because}. {spent}"
    if not tune.grid_attempts:
        return f"{spent}."
    return (
        f"{spent}; the full grid, "
        f"{counted(len(tune.settings), 'setting')} with {counted(tune.grid_repeats, 'repeat')}, "
        f"would take about {_two_digits(tune.grid_attempts):,}."
    )


def counted_requests(count: int) -> str:
    """Write `1 request`, `1,200 requests`."""
    return f"{count:,} request{'s' * (count != 1)}"


def _two_digits(count: int) -> int:
    return round(count, 2 - len(str(count)))


def changed_provider(summary: Summary) -> str:
    """Return that the provider changed during a tune, how, and the way out, in a sentence.

    Empty if nothing shows that it did.
    """
    change = None if summary.tune is None else summary.tune.changed
    cell = next((one for one in summary.cells if change and one.id == change.cell), None)
    if change is None or cell is None:
        return ""
    before, after = change.before, change.after
    shown = _before_and_after(change, summary.recommendation.objective)
    alike = counted(len(change.alike), "other setting")
    others = f", and {alike} changed alike" if change.alike else ""
    return sentence(
        f"{in_words(cell, summary.cells)} {shown[0]} in {_blocks(before)} and {shown[1]} in "
        f"{_blocks(after)}{others}: the provider changed between blocks {before.blocks[-1] + 1} "
        f"and {after.blocks[0] + 1}, so the settings met different providers; run the tune again, "
        "or choose a limit that adapts (docs/limits.md)."
    )


def _before_and_after(change: TuneChange, objective: str) -> tuple[str, str]:
    """Return what a setting did before and after a change: `took 6 s` and `11 s`."""
    before, after = change.before, change.after
    match change.quantity:
        case "success":
            return f"kept {_of(before)} workflows", _of(after)
        case "refusals":
            return f"had {_of(before)} requests refused (429)", _of(after)
        case "objective":
            did, unit = _DID.get(objective, ("took", "s"))
            first, then = (number(one.value) for one in (before, after))
            return f"{did} {first} {unit}", f"{then} {unit}"
        case _:
            assert_never(change.quantity)


_DID: Mapping[str, tuple[str, str]] = {
    "workflow_p95": ("had a 95th percentile of", "s"),
    "cost_per_successful_workflow": ("cost", "USD a workflow"),
}
"""What a setting did with an objective that is no makespan, and its unit."""


def _of(mean: BlocksMean) -> str:
    return f"{round(mean.value * mean.of):,} of {mean.of:,}"


def _blocks(mean: BlocksMean) -> str:
    """Return `block 5`, or `blocks 2 to 4`."""
    first, last = mean.blocks[0] + 1, mean.blocks[-1] + 1
    return f"block {first}" if first == last else f"blocks {first} to {last}"


def untried_settings(tune: TuneSummary) -> str:
    """Return why settings had no trial, in a sentence; empty if each had one."""
    count = Counter(one.ruled_out for one in tune.settings if not one.trials)
    at_the_twin = [
        f"{count[reason]} {words[count[reason] > 1]}"
        for reason, words in _AT_THE_TWIN.items()
        if count[reason]
    ]
    said = [f"{' and '.join(at_the_twin)} at a twin of the provider"] if at_the_twin else []
    if same := count["same"]:
        said.append(f"{same} {'are' if same > 1 else 'is'} the same as a tried one")
    if left := count[None]:
        said.append(f"{left} {'are' if left > 1 else 'is'} not ruled out")
    untried = sum(count.values())
    which = f"{counted(untried, 'setting')} that {'were' if untried > 1 else 'was'} not tried"
    return f"Of {which}, {', '.join(said)}." if said else ""


_AT_THE_TWIN: Mapping[_Reason, tuple[str, str]] = {
    "slower": ("is too slow", "are too slow"),
    "slo": ("loses too many workflows", "lose too many workflows"),
}
"""What is said of one setting, and of several, that a twin rules out."""


def tuned_labels(tune: TuneSummary) -> dict[str, str]:
    """Return a short name of each setting that could be chosen, by its id."""
    return cell_labels([one.info for one in tune.settings])


def tune_lines(tune: TuneSummary) -> Iterator[str]:
    """Yield a line for each block: what was tried, what was left and spent, and why."""
    labels = tuned_labels(tune)
    for step in tune.steps:
        out = ruled_out_at(tune, step.block)
        left = f"{counted(step.left, 'setting')} left{f' (ruled out for good: {out})' * bool(out)}"
        if step.end:
            yield f"end: {left}; {reason_in_words(step, tune)}"
            continue
        tried = ", ".join(labels[name] for name in step.cells)
        spent = counted_requests(step.attempts)
        yield f"block {step.block + 1}: {left}; {tried}; {spent}; {step.reason}"


def reason_in_words(step: TuneStep, tune: TuneSummary) -> str:
    """Return why a block has its settings, or why the tune ended."""
    return _end_in_words(step.end, tune.changed) if step.end else step.reason


def _end_in_words(end: str, changed: TuneChange | None) -> str:
    if end == PROVEN and changed is not None:
        return "the provider changed during the tune, so its trials prove no setting"
    return end


def ruled_out_at(tune: TuneSummary, block: int) -> str:
    """Return how many settings were ruled out for good when a block was decided, and why."""
    count = Counter(one.ruled_out for one in tune.settings if one.since == block)
    return ", ".join(
        f"{count[reason]} {words}" for reason, words in _REASONS.items() if count[reason]
    )


_REASONS: Mapping[_Reason, str] = {
    "slower": "too slow", "slo": "below the SLO", "same": "the same as another",
    "dropped": "by trials",
}  # fmt: skip


def state_in_words(one: TunedSetting, objective: str) -> str:
    """Return why a setting needs no more trials; `open` if it may still be the best."""
    bound = one.bound or 0.0
    match one.ruled_out:
        case "slower":
            return bound_in_words(bound, objective).replace(" %", "\u00a0%")
        case "slo":
            return f"keeps at most {percent(bound)}"
        case "same":
            return "no attempt failed: the same with each policy"
        case "dropped":
            return "dropped by its trials"
        case None:
            return "open" if one.expected is not None else "not known"
        case _:
            assert_never(one.ruled_out)
