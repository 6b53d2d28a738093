"""`--fail-on`: which changes fail a comparison, for use in CI."""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.analysis.metrics import compared_metrics
from harness.config.tables import nearest
from harness.records.errors import InputError

_RULE = re.compile(r"\s*([a-z_0-9]+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*\Z")
_NO_PERCENT = re.compile(r"\s*([a-z_0-9]+)\s*([<>])\s*([+-]?\d*\.?\d+)\s*\Z")


class Rule(NamedTuple):
    """The most that a quantity may change: `limit` is 0.1 for 10 % (points for a share)."""

    text: str
    name: str
    sign: str
    limit: float

    def is_beyond(self, change: float) -> bool:
        """Return whether the change is beyond the limit."""
        return change > self.limit if self.sign == ">" else change < self.limit


def parse_rule(text: str) -> Rule:
    """Read `workflow_p95>+10%`. Raises InputError."""
    match = _RULE.match(text)
    if match is None:
        raise InputError(f"--fail-on {text}: not a rule; {_right_form(text)}")
    name, sign, limit = match.groups()
    names = compared_metrics()
    if name not in names:
        raise InputError(
            f"--fail-on {text}: {name} is not compared{nearest(name, names)}; there are "
            f"{', '.join(names)}"
        )
    return Rule(text, name, sign, float(limit) / 100)


def _right_form(text: str) -> str:
    """Return how a rule is written; a limit below 1 without `%` is a share."""
    match = _NO_PERCENT.match(text)
    if match is None:
        return "write it like 'workflow_p95>+10%' or 'throughput<-5%'"
    name, sign, limit = match[1], match[2], float(match[3])
    percent = 100 * limit if abs(limit) < 1 else limit
    return f"a limit is in percent: write '{name}{sign}{percent:+.6g}%'"
