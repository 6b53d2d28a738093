"""What the load of an open loop was, in a sentence: the offered rate and the lateness."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.model import Summary
from harness.report.wording import number, rate_unit, value_of

ARRIVALS_KEY = (
    "planned: the configured rate, or of a Poisson schedule that of the draw; late: from the "
    "planned arrival to the start by the client"
)
"""What the columns of the table of arrivals mean."""


def arrivals_text(summary: Summary) -> str:
    """Return the offered and the configured rate of arrivals, and how late they were at most.

    Of settings that differ, the least and the largest rate, and the latest arrivals. Empty without
    an open loop.
    """
    cells = [cell for cell in summary.cells if cell.offered_workflows_per_s is not None]
    if not cells:
        return ""
    unit, per = rate_unit(summary)
    offered = _range(value_of(cell.offered_workflows_per_s) for cell in cells)
    planned = _range(value_of(cell.planned_workflows_per_s) for cell in cells)
    configured = _range(cell.configured_workflows_per_s for cell in cells)
    said = f"configured {_written(configured, per)}"
    if _written(planned, per) != _written(configured, per):
        said = f"planned {_written(planned, per)} (Poisson, {said})"
    worst = max((cell.arrival_lateness_s for cell in cells), key=lambda late: late.p99 or 0.0)
    late = "none late"
    if worst.max:
        parts = ((worst.p50, "median"), (worst.p99, "p99"), (worst.max, "max"))
        shown = [f"{number((part or 0.0) / summary.time_scale)} s ({what})" for part, what in parts]
        late = f"late by {', '.join(shown)}"
        late += " in the worst setting" if len(cells) > 1 else ""
    return f"Arrivals {unit}: {_written(offered, per)}, {said}; {late}."


def _range(rates: Iterable[float | None]) -> tuple[float, float]:
    known = [rate for rate in rates if rate is not None]
    return min(known), max(known)


def _written(rates: tuple[float, float], per: float) -> str:
    return " to ".join(dict.fromkeys(number(rate * per) for rate in rates))
