"""What a tune has proven: the settings that were measured, without those that a twin ruled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.analysis.contenders import contenders_after, rules_of
from harness.analysis.decision import Contender, Judgement, Rules, look
from harness.analysis.selection import Dataset
from harness.records.tune_blocks import TuneBlock


def judge_tune(records: Dataset, repeats: int, blocks: Sequence[TuneBlock]) -> Judgement:
    """Return the decision after so many blocks. `blocks`: as in `decide_tune`."""
    objective = records.run.scenario["objective"]["minimise"]

    def after(count: int) -> list[Contender]:
        return contenders_after(count, records.cells.values(), objective)

    return decide_tune(after, rules_of(records.run), repeats, blocks)


def decide_tune(
    after: Callable[[int], Sequence[Contender]], rules: Rules, repeats: int,
    blocks: Sequence[TuneBlock],
) -> Judgement:  # fmt: skip
    """Return the decision after so many blocks.

    `after`: returns what the first blocks say about the measured settings. `blocks`: the decisions
    of the tune. The last one says which settings need no more trials; they are no rivals. While a
    setting that was not measured may still be better, nothing is proven.
    """
    dropped: Mapping[str, int] = {}
    for count in rules.looks.repeats:
        if count < repeats:
            dropped = look(after(count), rules, count, dropped).dropped
    contenders = list(after(repeats))
    ruled_out: set[str] = set()
    unknown: set[str] = set()
    if blocks:
        last = blocks[-1]
        ruled_out = {one.cell for one in last.ruled_out}
        unknown = set(last.open) - {one.name for one in contenders}
    rivals = [one for one in contenders if one.name not in ruled_out]
    found = look(rivals, rules, repeats, dropped)
    if unknown and found.state == "proven":
        found = found._replace(state="leading", cell=None, settled=False, is_final=False)
    return found
