"""`--fail-on`: which changes fail a comparison, for use in CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.compare import Change, Comparison
from harness.analysis.metrics import compared_metrics
from harness.analysis.significance import holm, is_called
from harness.config.tables import nearest
from harness.records.errors import InputError

_RULE = re.compile(r"\s*([a-z_0-9]+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*\Z")


class Rule(NamedTuple):
    """The most that a quantity may change: `limit` is 0.1 for 10 % (points for a share)."""

    text: str
    name: str
    sign: str
    limit: float

    def is_beyond(self, change: Change) -> bool:
        """Return whether the change is beyond the limit."""
        seen = change.change.value
        return seen > self.limit if self.sign == ">" else seen < self.limit


class Found(NamedTuple):
    """A change in one cell that is beyond the limit of a rule.

    `regression`: whether it is significant among the quantities that the rules name, in all cells;
    otherwise it does not fail the comparison.
    """

    rule: Rule
    cell: str
    change: Change
    regression: bool


def parse_rule(text: str) -> Rule:
    """Read `workflow_p95>+10%`. Raises InputError."""
    match = _RULE.match(text)
    if match is None:
        raise InputError(
            f"--fail-on {text}: not a rule; write it like 'workflow_p95>+10%' or 'throughput<-5%'"
        )
    name, sign, limit = match.groups()
    names = compared_metrics()
    if name not in names:
        raise InputError(
            f"--fail-on {text}: {name} is not compared{nearest(name, names)}; there are "
            f"{', '.join(names)}"
        )
    return Rule(text, name, sign, float(limit) / 100)


def judge_rules(comparison: Comparison, rules: Sequence[Rule]) -> list[Found]:
    """Return the changes that are beyond a rule's limit.

    Raises InputError for a rule on a quantity that no cell has.
    """
    changes = {
        (rule.name, cell.cell): cell.changes[rule.name]
        for rule in rules
        for cell in comparison.cells
        if rule.name in cell.changes
    }
    known = {key: one.p for key, one in changes.items() if one.p is not None}
    adjusted = dict(zip(known, holm([*known.values()]), strict=True))
    found: list[Found] = []
    for rule in rules:
        mine = {cell: one for (name, cell), one in changes.items() if name == rule.name}
        if not mine:
            raise InputError(
                f"--fail-on {rule.text}: no cell of the two runs has {rule.name}; "
                "run more workflows, or fail on something else"
            )
        for cell, change in mine.items():
            is_significant = is_called(adjusted.get((rule.name, cell)), change.mann_whitney_p)
            if rule.is_beyond(change):
                found.append(Found(rule, cell, change, is_significant))
    return found
