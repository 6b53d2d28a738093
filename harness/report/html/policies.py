"""What each retry policy cost and saved: a table, permits against policies, attempts over time."""

from __future__ import annotations

from typing import NamedTuple

from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.report.html.chart_model import Bar, Chart, ChartRow, Key, RowChart, Scale, ticks
from harness.report.html.columns import dollars
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.plots.attempts import TrialAttempts, outages_until, seen_over_time
from harness.report.plots.heat_map import Grid, Quantity, grid_of, quantities
from harness.report.policy_table import seconds_a_call, side_by_side
from harness.report.wording import NONE, counted, in_seconds, number, percent
from harness.store.run_directory import Records

BINS = 60
STRONGEST = 42
"""Percent of colour in the strongest shade: text stays legible on it in both schemes."""

_LOOKS = ("vermillion", "orange", "pink", "sky")
OTHER = "other failures"
OUTAGE = "fill-outage"


class Shade(NamedTuple):
    """One cell of a heat map: its number, how strongly it is shaded (percent), whether framed."""

    text: str
    strength: int
    best: bool


class HeatRow(NamedTuple):
    """One policy of a heat map."""

    label: str
    shades: tuple[Shade, ...]


class Heat(NamedTuple):
    """A heat map of one quantity: `look` names its colour, `columns` are permits."""

    title: str
    look: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]


def policy_table(about: Subject) -> Table | None:
    """Return what each policy cost, in every cell; None where only one policy ran."""
    cells = side_by_side(about.cells)
    if len({cell.retry for cell in cells}) < 2:
        return None
    summary, best = about.summary, about.summary.recommendation.cell
    return Table(
        "policies",
        "What each retry policy cost and saved",
        (
            *about.cell_columns(cells),
            Column("attempts", "attempts", [c.attempts.total for c in cells], whole_number),
            Column("a call", "amplification", [c.attempts.amplification for c in cells]),
            Column("calls lost", "calls_lost", [c.calls_lost for c in cells], percent),
            Column(
                "wasted tokens", "tokens_wasted", [c.tokens.wasted for c in cells], whole_number
            ),
            Column("wasted money", "wasted_usd", [c.wasted_usd for c in cells], dollars),
            Column(
                "makespan",
                about.seconds("makespan"),
                [in_seconds(c.makespan_s, summary) for c in cells],
            ),
            *(
                Column(
                    f"{part.replace('_', ' ')} a call",
                    about.seconds(f"{part}_a_call"),
                    [seconds_a_call(cell, part, summary) for cell in cells],
                )
                for part in ("permit_wait", "backoff")
            ),
        ),
        frozenset(at for at, cell in enumerate(cells) if cell.id == best),
    )


def heat_chart(about: Subject) -> Chart | None:
    """Draw permits against policies; None where nothing is crossed."""
    grid = grid_of(about.summary)
    if grid is None:
        return None
    shown = quantities(about.summary)
    cells = [cell for line in grid.rows for cell in line.cells]
    return Chart(
        "heat-map",
        "Permits and policies",
        f"{' and '.join(one.title for one in shown)}, permits across and policies down.",
        ("Goodput: workflows that succeeded within the SLO, per time of makespan.",),
        "heat",
        tuple(_heat(about, grid, one) for one in shown),
        (),
        Table(
            "heat-map",
            "Goodput and lost calls by permits and policy",
            (
                *about.cell_columns(cells),
                *(
                    Column(one.title, one.key, [one.of(cell) for cell in cells], one.text)
                    for one in shown
                ),
            ),
        ),
    )


def _heat(about: Subject, grid: Grid, quantity: Quantity) -> Heat:
    top = max([quantity.of(cell) or 0.0 for line in grid.rows for cell in line.cells] + [1e-12])

    def shade(line_at: int, permits: int) -> Shade:
        cell = grid.cell(grid.rows[line_at], permits)
        value = None if cell is None else quantity.of(cell)
        if cell is None or value is None:
            return Shade(NONE, 0, best=False)
        best = cell.id == about.summary.recommendation.cell
        return Shade(quantity.text(value), round(STRONGEST * value / top), best)

    return Heat(
        quantity.title,
        "blue" if quantity.good else "vermillion",
        tuple(map(str, grid.permits)),
        tuple(
            HeatRow(line.name, tuple(shade(at, permits) for permits in grid.permits))
            for at, line in enumerate(grid.rows)
        ),
    )


def attempts_chart(about: Subject, records: Records) -> Chart | None:
    """Draw attempts over time by outcome, a row a policy; None where no attempt failed."""
    seen = seen_over_time(about.summary, records, BINS)
    if not seen:
        return None
    looks = _looks(seen)
    unit = SECOND * about.summary.time_scale
    scale = Scale(max(one.lasted for one in seen) / unit)
    most = max(int(one.flow.every.max()) for one in seen)
    out = tuple(
        Bar(scale.place(start), round(scale.place(end) - scale.place(start), 3), OUTAGE)
        for start, end in outages_until(records, scale.end)
    )
    lines = tuple(
        ChartRow(
            about.labels[one.cell.id], _failed(one),
            bars=(*out, *_bars(one, looks, scale, unit, most)),
        )
        for one in seen
    )  # fmt: skip
    return Chart(
        "attempts-over-time",
        "Attempts over time, by outcome",
        "Attempts over the time of one trial. "
        + "; ".join(f"{line.label}: {_sent(one)}" for line, one in zip(lines, seen, strict=True)),
        (
            f"Repeat {seen[0].repeat}; each attempt stands where it was sent, coloured by how it "
            f"ended. The tallest bar is {counted(most, 'attempt')} in "
            f"{number(seen[0].flow.width / unit)} s. Beside: how many failed.",
        ),
        "rows",
        (RowChart("", lines, ticks(scale), "seconds since the trial began", 58, "failed"),),
        (
            *(Key(look, name) for name, look in _legend(looks)),
            *((Key(OUTAGE, "the provider is out"),) if out else ()),
        ),
        _flow_table(about, seen, unit),
    )


def _looks(seen: list[TrialAttempts]) -> dict[str, str]:
    totals: dict[str, int] = {}
    for one in seen:
        for outcome, counts in one.flow.counts.items():
            totals[outcome] = totals.get(outcome, 0) + int(counts.sum())
    failed = sorted((name for name in totals if name != OK), key=lambda name: -totals[name])
    known = {name: f"fill-{look}" for name, look in zip(failed, _LOOKS, strict=False)}
    return {OK: "part-permit_wait"} | known | dict.fromkeys(failed[len(_LOOKS) :], "part-other")


def _legend(looks: dict[str, str]) -> list[tuple[str, str]]:
    named = [(name, look) for name, look in looks.items() if look != "part-other"]
    return [*named, (OTHER, "part-other")] if len(named) < len(looks) else named


def _bars(
    one: TrialAttempts, looks: dict[str, str], scale: Scale, unit: float, most: int
) -> tuple[Bar, ...]:
    """Stack the outcomes: bars grow from below, so the whole is drawn first and `ok` last."""
    width = scale.place(one.flow.width / unit)
    below = one.flow.every
    bars = []
    for outcome in sorted(one.flow.counts, key=lambda name: -list(looks).index(name)):
        for at in one.flow.counts[outcome].nonzero()[0].tolist():
            x = scale.place(at * one.flow.width / unit)
            bars.append(Bar(x, width, looks[outcome], height=round(int(below[at]) / most, 3)))
        below = below - one.flow.counts[outcome]
    return tuple(bars)


def _failed(one: TrialAttempts) -> str:
    return f"{one.flow.failed} of {one.flow.total}"


def _sent(one: TrialAttempts) -> str:
    return f"{counted(one.flow.total, 'attempt')}, {one.flow.failed} of them failed"


def _flow_table(about: Subject, seen: list[TrialAttempts], unit: float) -> Table:
    rows = [(one, at) for one in seen for at, count in enumerate(one.flow.every) if count]
    outcomes = list(dict.fromkeys(name for one in seen for name in one.flow.counts))

    def count(one: TrialAttempts, at: int, outcome: str) -> int:
        return int(one.flow.counts[outcome][at]) if outcome in one.flow.counts else 0

    return Table(
        "attempts-over-time",
        "Attempts sent in each part of the trial, by outcome",
        (
            *about.cell_columns([one.cell for one, _ in rows]),
            Column("from", about.seconds("from"), [at * o.flow.width / unit for o, at in rows]),
            Column("to", about.seconds("to"), [(at + 1) * o.flow.width / unit for o, at in rows]),
            *(
                Column(name, name, [count(one, at, name) for one, at in rows], whole_number)
                for name in outcomes
            ),
        ),
    )
