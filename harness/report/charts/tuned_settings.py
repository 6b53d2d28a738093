"""The chart of a tune: what it expects of each setting, and what was measured, over permits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from harness.analysis.metrics import compared_metrics
from harness.analysis.model import Figure, TunedSetting, TuneSummary
from harness.report.charts.model import (
    SERIES,
    Chart,
    CurvePanel,
    Key,
    Point,
    Series,
    legible,
    log_axis,
)
from harness.report.charts.permit_lines import (
    LIMITS_NOTE,
    PermitPlaces,
    aside_of,
    lines_by_permits,
    permit_places,
)
from harness.report.tables import Column, Subject, Table
from harness.report.tune_text import state_in_words, tuned_labels
from harness.report.wording import counted, percent, sentence, whole_number

_RULED_OUT, _MEASURED = "pale", "dark"


class _Line(NamedTuple):
    """Settings that differ only in permits, in their order; `aside`: the factor that moves it."""

    name: str
    look: str
    aside: float
    settings: tuple[TunedSetting, ...]


def tuned_settings(about: Subject) -> Chart | None:
    """Return the objective over permits, as a tune expects and measured it; None for other runs.

    A limit that adapts has a column of its own, right of the numbers of permits.
    """
    tune = about.summary.tune
    if tune is None:
        return None
    best = about.summary.recommendation.candidate
    measured = {one.info.id: one.measured for one in tune.settings if one.measured is not None}
    lines, left_out = _lines(tune, measured)
    drawn = [one for line in lines for one in line.settings]
    if not drawn:
        return None
    objective = compared_metrics()[about.summary.recommendation.objective]
    seconds = "scenario seconds" if about.summary.has_simulator else "seconds"
    unit = seconds if objective.metric.unit == "s" else "USD"
    bounds = [value for one in drawn for value in _values(one, measured)]
    y = log_axis(f"{objective.words}, {unit}", min(bounds), max(bounds))
    places = permit_places(one.info for one in drawn)
    series = [each for line in lines for each in _series(line, places, measured, best)]
    return Chart(
        sentence(f"{objective.words} by permits, as the tune expects it"),
        _finding(about, tune),
        f"{objective.words} over permits: a line for each policy, with intervals, and what was "
        "measured.",
        tuple(_notes(about, drawn, left_out)),
        (
            CurvePanel(
                "",
                places.axis,
                y._replace(ticks=legible(y.ticks, y)),
                tuple(series),
                verticals=places.edge,
            ),
        ),
        tuple(_keys(lines, drawn, measured)),
        _table(about, tune, measured, f"{objective.words}\n{unit}"),
    )


def _lines(tune: TuneSummary, measured: Mapping[str, Figure]) -> tuple[list[_Line], int]:
    """Return the lines, those with the best settings if there are many, and how many are left."""
    known = {
        one.info.id: one
        for one in tune.settings
        if one.expected is not None or one.info.id in measured
    }
    groups = lines_by_permits([one.info for one in known.values()], known)

    def best(group: int) -> float:
        mine = [known[info.id] for info in groups[group][1]]
        able = [one for one in mine if one.ruled_out != "slo"]
        return min(value for one in able or mine for value in _values(one, measured))

    chosen = sorted(sorted(range(len(groups)), key=best)[: len(SERIES)])
    lines = [
        _Line(
            groups[group][0], SERIES[at], aside_of(at, len(chosen)),
            tuple(known[info.id] for info in groups[group][1]),
        )
        for at, group in enumerate(chosen)
    ]  # fmt: skip
    return lines, len(groups) - len(lines)


def _values(one: TunedSetting, measured: Mapping[str, Figure]) -> list[float]:
    known = (one.expected, measured.get(one.info.id))
    return [each.value for each in known if each is not None]


def _series(
    line: _Line, places: PermitPlaces, measured: Mapping[str, Figure], best: str | None
) -> Iterator[Series]:
    """Yield the line of the settings that may meet the SLO, its ends, and the marks.

    The line joins the numbers of permits. Each limit has a short one across its column.
    """
    expected = [one for one in line.settings if one.expected is not None]
    points = [_point(one, places.of(one.info) * line.aside, best) for one in expected]
    plain = [
        point._replace(ringed=False)
        for point, one in zip(points, expected, strict=True)
        if not one.info.limiter
    ]
    for is_missed, run in groupby(range(len(plain)), key=lambda at: plain[at].hollow):
        members = list(run)
        if is_missed:  # with the settings around it, as the line ends there
            first, last = max(members[0] - 1, 0), members[-1] + 2
            yield Series("misses the SLO", line.look, tuple(plain[first:last]), "dashed")
        else:
            yield Series(line.name, line.look, tuple(plain[at] for at in members), "line")
    for point, one in zip(points, expected, strict=True):
        if one.info.limiter:
            short = tuple(Point(place, point.y) for place in places.across(one.info))
            if point.hollow:
                yield Series("misses the SLO", line.look, short, "dashed")
            else:
                yield Series(line.name, line.look, short, "line")
    for name, look, is_out in (("ruled out", _RULED_OUT, True), (line.name, line.look, False)):
        mine = tuple(
            point
            for point, one in zip(points, expected, strict=True)
            if (one.ruled_out is not None) == is_out
        )
        if mine:
            yield Series(name, look, mine, "loose")
    tried = [one for one in line.settings if one.info.id in measured]
    if tried:
        yield Series("measured", _MEASURED, tuple(
            Point(places.of(one.info) * line.aside, measured[one.info.id].value) for one in tried
        ), "loose")  # fmt: skip


def _point(one: TunedSetting, place: float, best: str | None) -> Point:
    assert one.expected is not None, "the caller has chosen those with an estimate"
    figure = one.expected
    return Point(
        place, figure.value, figure.low, figure.high,
        hollow=one.ruled_out == "slo", ringed=one.info.id == best,
    )  # fmt: skip


def _finding(about: Subject, tune: TuneSummary) -> str:
    out = sum(one.ruled_out is not None for one in tune.settings)
    untried = sum(not one.trials for one in tune.settings)
    labels, best = tuned_labels(tune), about.summary.recommendation.candidate
    settings = counted(len(tune.settings), "setting")
    said = f"{out} of {settings} are ruled out, {untried} without a trial"
    if best is None:
        return said
    state = "is recommended" if about.summary.recommendation.cell else "is ahead so far"
    return f"{sentence(labels[best])} {state}; {said}"


def _notes(about: Subject, drawn: Sequence[TunedSetting], left_out: int) -> Iterator[str]:
    yield (
        "Lines: what the tune expects of each setting, for the work of all blocks, with "
        "95\u00a0% intervals."
    )
    yield (
        "Crosses: measured, for the same work: compared with the recommended setting in the blocks "
        "that both ran, or else corrected by the work that the twin expects of the blocks."
    )
    said = ["Grey: ruled out"]
    if any(one.ruled_out == "slo" for one in drawn):
        said.append("hollow and dashed: misses the SLO")
    if any(about.summary.recommendation.candidate == one.info.id for one in drawn):
        is_proven = about.summary.recommendation.cell is not None
        said.append(f"ringed: {'recommended' if is_proven else 'ahead so far'}")
    yield f"{'; '.join(said)}."
    if any(one.info.limiter for one in drawn):
        yield LIMITS_NOTE
    if left_out:
        yield f"Not drawn: {counted(left_out, 'more line')}; their settings are in the table."


def _keys(
    lines: Sequence[_Line], drawn: Sequence[TunedSetting], measured: Mapping[str, Figure]
) -> Iterator[Key]:
    for line in lines:
        yield Key(line.look, line.name, marker=True)
    if any(one.ruled_out is not None for one in drawn):
        yield Key(_RULED_OUT, "ruled out", marker=True)
    if any(one.info.id in measured for one in drawn):
        yield Key(_MEASURED, "measured", marker=True)


def _table(about: Subject, tune: TuneSummary, measured: Mapping[str, Figure], head: str) -> Table:
    labels, best = tuned_labels(tune), about.summary.recommendation.candidate
    rows = tune.settings
    return Table(
        "tuned-settings",
        "Every setting that could be chosen",
        (
            Column("setting", "", [labels[one.info.id] for one in rows]),
            Column("", "cell", [one.info.id for one in rows]),
            Column("trials", "trials", [one.trials for one in rows], whole_number),
            Column(f"{head}, expected", "expected", [one.expected for one in rows]),
            Column("measured", "measured", [measured.get(one.info.id) for one in rows]),
            Column("success rate\nexpected", "success", [one.success for one in rows], percent),
            Column("state", "state", [
                "recommended" if one.info.id == best
                else state_in_words(one, about.summary.recommendation.objective)
                for one in rows
            ]),
            Column("since\nblock", "since_block", [
                None if one.since is None else one.since + 1 for one in rows
            ], whole_number),
        ),
        frozenset(at for at, one in enumerate(rows) if one.info.id == best),
    )  # fmt: skip
