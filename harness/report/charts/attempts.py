"""Attempts over time, by outcome: what each retry policy sent while the provider failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.analysis.flow import Flow, flow
from harness.analysis.model import Cell
from harness.analysis.settings import identity
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK, is_failure
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    CANCELLED_LOOK,
    Bar,
    Chart,
    ChartRow,
    Key,
    RowPanel,
    axis_from_zero,
)
from harness.report.tables import Column, Subject, Table
from harness.report.wording import counted, headline, number, whole_number

TIME_BINS = 80
MOST_POLICIES = 8

FAILURE_LOOKS = ("vermillion", "orange", "green", "sky")
"""The colours of the most frequent failures; all others share one."""
REST = "dark"


class TrialAttempts(NamedTuple):
    """A trial of a cell: its attempts over time, and its length in nanoseconds."""

    cell: Cell
    repeat: int
    flow: Flow
    lasted: int


def seen_over_time(about: Subject) -> list[TrialAttempts]:
    """Return the first whole trial of each policy; an empty list when no attempt failed.

    All other settings are those of the `headline` of the cells with failed attempts.
    """
    failing = [cell for cell in about.summary.cells if cell.attempts.failed]
    if not failing:
        return []
    main = headline(
        [cell for cell in failing if not one_at_a_time(cell.mode)] or failing, about.summary
    )
    alike = [c for c in about.cells if identity(c, ("retry",)) == identity(main, ("retry",))]
    found = []
    for cell in alike[:MOST_POLICIES]:
        records = about.data.cells[cell.id]
        trials = records.whole_trials() or records.trials.values()
        found += [(cell, records.attempts, trial) for trial in trials][:1]
    longest = max((trial.end - trial.start for _, _, trial in found), default=0)
    seen = []
    for cell, attempts, trial in found:
        mine = attempts.take(attempts.column("repeat") == trial.repeat)
        over_time = flow(mine, trial, longest // TIME_BINS + 1)
        seen.append(TrialAttempts(cell, trial.repeat, over_time, trial.end - trial.start))
    return seen


def outages_until(profile: Mapping[str, Any] | None, end: float) -> list[tuple[float, float]]:
    """Return the outages of a simulated provider, in scenario seconds since a trial began."""
    found = []
    for fault in (profile or {}).get("faults") or ():
        outage = fault.get("outage")
        start = end if outage is None else outage["start"]
        while start < end:
            found.append((start, min(start + outage["duration"], end)))
            start = start + outage["every"] if outage["every"] else end
    return found


def attempts_over_time(about: Subject) -> Chart | None:
    """Return one row for each policy on one axis of seconds; None if no attempt failed."""
    seen = seen_over_time(about)
    if not seen:
        return None
    looks = _looks(seen)
    unit = SECOND * about.summary.time_scale
    longest = max(one.lasted for one in seen) / unit
    most = max(int(one.flow.every.max()) for one in seen)
    profile = about.data.run.cell_profile(seen[0].cell.id)
    out = tuple(Bar(start, end, "outage") for start, end in outages_until(profile, longest))
    rows = []
    for one in seen:
        beside, bars = f"{one.flow.failed} of {one.flow.total}", _bars(one.flow, looks, unit, most)
        rows.append(ChartRow(about.labels[one.cell.id], beside, bars=(*out, *bars)))
    said = (
        f"{row.label}: {counted(one.flow.total, 'attempt')}, {one.flow.failed} of them failed"
        for row, one in zip(rows, seen, strict=True)
    )
    keys = [Key(look, name) for name, look in looks.items() if look != REST]
    keys += [Key(REST, "other failures")] if len(keys) < len(looks) else []
    keys += [Key("outage", "provider outage")] if out else []
    axis = axis_from_zero("seconds since the trial began", longest)
    return Chart(
        "Attempts over time, by outcome",
        _extreme_policies(seen),
        f"Attempts over the time of one trial. {'; '.join(said)}",
        (
            f"Repeat {seen[0].repeat + 1}; each attempt is shown at the time it was sent, coloured "
            f"by its outcome. The tallest bar is {counted(most, 'attempt')} in "
            f"{number(seen[0].flow.width / unit)} s. Beside: the number of failed attempts.",
        ),
        (RowPanel("", tuple(rows), axis, 66, "failed"),),
        tuple(keys),
        _flow_table(about, seen, unit),
    )


def _looks(seen: Sequence[TrialAttempts]) -> dict[str, str]:
    """Return a colour for each outcome: pale for `ok`, others for failures."""
    totals: Counter[str] = Counter()
    for one in seen:
        totals.update({outcome: int(found.sum()) for outcome, found in one.flow.counts.items()})
    failed = [name for name, _ in totals.most_common() if is_failure(name)]
    known = dict(zip(failed, FAILURE_LOOKS, strict=False))
    cancelled = {CANCELLED: CANCELLED_LOOK} if totals[CANCELLED] else {}
    fine = {OK: "pale"} if totals[OK] else {}
    return fine | cancelled | known | dict.fromkeys(failed[len(FAILURE_LOOKS) :], REST)


def _bars(seen: Flow, looks: dict[str, str], unit: float, most: int) -> Iterator[Bar]:
    """Yield the outcomes of each bin, stacked, `ok` at the bottom."""
    width = seen.width / unit
    below = seen.every * 0
    for outcome in sorted(seen.counts, key=list(looks).index):
        above = below + seen.counts[outcome]
        for at in seen.counts[outcome].nonzero()[0].tolist():
            yield Bar(
                at * width, (at + 1) * width, looks[outcome],
                low=int(below[at]) / most, high=int(above[at]) / most,
            )  # fmt: skip
        below = above


def _extreme_policies(seen: Sequence[TrialAttempts]) -> str:
    if len(seen) == 1:
        return ""
    totals = [(one.flow.total, one.cell.retry) for one in seen]
    (least, fewest), (most, largest) = min(totals), max(totals)
    return f"Attempts over time: {largest} sent {most}, {fewest} {least}"


def _flow_table(about: Subject, seen: Sequence[TrialAttempts], unit: float) -> Table:
    rows = [(one, at) for one in seen for at, count in enumerate(one.flow.every) if count]
    counts = {
        name: [int(o.flow.counts[name][at]) if name in o.flow.counts else 0 for o, at in rows]
        for one in seen
        for name in one.flow.counts
    }
    return Table(
        "attempts-over-time",
        "Attempts sent in each part of the trial, by outcome",
        (
            *about.cell_columns([one.cell for one, _ in rows]),
            Column("from s", about.seconds("from"), [at * o.flow.width / unit for o, at in rows]),
            Column("to s", about.seconds("to"), [(at + 1) * o.flow.width / unit for o, at in rows]),
            *(Column(name, name, found, whole_number) for name, found in counts.items()),
        ),
    )
