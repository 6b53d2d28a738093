"""The section of the report that says how a tune found its setting, and what it cost."""

from __future__ import annotations

from typing import NamedTuple

from harness.analysis.model import Summary
from harness.report.paired_columns import BLOCKS_DIFFER
from harness.report.tables import Column, Table
from harness.report.tune_text import (
    changed_provider,
    reason_in_words,
    ruled_out_at,
    tune_cost,
    tuned_labels,
)
from harness.report.wording import whole_number


class TuningSection(NamedTuple):
    """What a tune cost, and a table with a row for each of its decisions.

    `changed`: that the provider changed meanwhile, empty if nothing shows that it did. `caution`:
    what to think of when figures of its settings are compared.
    """

    cost: str
    changed: str
    caution: str
    blocks: Table


def tuning(summary: Summary) -> TuningSection | None:
    """Return what a tune did; None for another run."""
    tune = summary.tune
    if tune is None:
        return None
    labels, steps = tuned_labels(tune), tune.steps
    blocks = Table(
        "blocks",
        "The blocks of the tune",
        (
            Column("block", "block", [
                "end" if step.end else str(step.block + 1) for step in steps
            ]),
            Column("settings\nleft", "left", [step.left for step in steps], whole_number),
            Column("ruled out\nfor good", "ruled_out", [
                ruled_out_at(tune, step.block) for step in steps
            ]),
            Column("tried", "tried", [
                ", ".join(labels[name] for name in step.cells) for step in steps
            ]),
            Column("requests", "requests", [
                None if step.end else step.attempts for step in steps
            ], whole_number),
            Column("why", "why", [reason_in_words(step, tune) for step in steps]),
        ),
    )  # fmt: skip
    cost = tune_cost(tune, summary.stopped)
    return TuningSection(cost, changed_provider(summary), BLOCKS_DIFFER, blocks)
