"""A run in a test, with assertions that say what was measured and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.analysis.metrics import METRICS, Metric, Unit, compared_metrics
from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import settings_of, varying
from harness.config.prices import PRICE_WAY_OUT
from harness.config.tables import nearest
from harness.library import Result, compare_results
from harness.records.errors import InputError
from harness.report.wording import number

_MOST_WORKFLOWS = 1_000_000
"""A larger number of workflows is not proposed."""

_UNITS: dict[Unit, str] = {
    "s": " s", "CPU s": " s of processor time", "workflows/s": " workflows a second",
    "calls/s": " calls a second", "tokens/s": " tokens a second", "USD": " USD",
}  # fmt: skip


class AssertedMetric(NamedTuple):
    """A metric by the name that assertions give it. `part`: of a distribution, such as `p95`."""

    metric: Metric
    part: str | None
    words: str

    def figure(self, cell: Cell, time_scale: float) -> Figure | None:
        """Return its value in scenario seconds, or per scenario second; None if it has none.

        Raises InputError for a structure.
        """
        found = self.metric.of(cell, self.part)
        if found is None:
            return None
        figure = found if isinstance(found, Figure) else None
        if figure is None:
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise InputError(
                    f"{self.metric.name} has no single value; name a part of it, such as "
                    f"{self.metric.name}.p95"
                )
            figure = Figure(value=found)
        factor = {"s": 1 / time_scale, "workflows/s": time_scale, "calls/s": time_scale,
                  "tokens/s": time_scale}.get(self.metric.unit, 1.0)  # fmt: skip
        return Figure(
            value=figure.value * factor,
            low=None if figure.low is None else figure.low * factor,
            high=None if figure.high is None else figure.high * factor,
        )

    def is_estimate(self, cell: Cell) -> bool:
        """Return whether its value is an estimate, and not a count or a sum of what happened."""
        return isinstance(self.metric.of(cell, self.part), Figure)

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        if self.metric.unit == "share":
            return f"{_digits(100 * value)} %"
        return f"{_digits(value)}{_UNITS.get(self.metric.unit, '')}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else number(value)


def find_metric(name: str) -> AssertedMetric:
    """Return the metric with a name of `harness compare`, or of a cell of summary.json, dotted.

    Raises InputError for an unknown one.
    """
    compared = compared_metrics()
    if name in compared:
        one = compared[name]
        part = None if one.percentile is None else f"p{100 * one.percentile:.0f}"
        return AssertedMetric(one.metric, part, one.words)
    rows = {metric.name: metric for metric in METRICS}
    if name in rows:
        return AssertedMetric(rows[name], None, rows[name].words)
    whole, _, part = name.rpartition(".")
    if whole in rows and part in ("mean", "p50", "p95", "p99", "max"):
        return AssertedMetric(rows[whole], part, f"{part} of {rows[whole].words}")
    known = [*compared, *rows]
    raise InputError(
        f"no metric is called {name!r}{nearest(name, known)}; the names are "
        f"{', '.join(compared)}, and those of the cells of summary.json"
    )


class CheckedRun:
    """A run that ended, in its directory.

    `where`: how messages say where it is.
    """

    __test__ = False

    def __init__(self, result: Result, where: str) -> None:
        self.result = result
        self._where = where

    @property
    def directory(self) -> Path:
        """The directory of the run."""
        return self.result.directory

    @property
    def summary(self) -> Summary:
        """Every figure with its interval, and the recommendation."""
        return self.result.summary

    def cells(self, **settings: Any) -> list[Cell]:
        """Return the settings with these values; without any, the one that is best so far.

        Raises InputError if there is none.
        """
        summary = self.summary
        if not settings:
            if len(summary.cells) == 1:
                return list(summary.cells)
            best = summary.recommendation.candidate
            found = [cell for cell in summary.cells if cell.id == best]
            if not found:
                raise InputError(
                    "the run recommends no setting; say which one is meant, such as permits=8"
                )
            return found
        found = [cell for cell in summary.cells if _has(cell, settings)]
        if not found:
            asked = ", ".join(f"{name}={value}" for name, value in settings.items())
            known = "; ".join(dict.fromkeys(self._name(cell) for cell in summary.cells))
            raise InputError(f"the run has no setting with {asked}; it has {known}")
        return found

    def figure(self, metric: str, **settings: Any) -> Figure | None:
        """Return a metric of one setting, in scenario seconds; None if it has none.

        Raises InputError for an unknown metric, and if there is not exactly one setting.
        """
        cells = self.cells(**settings)
        if len(cells) > 1:
            raise InputError(
                f"{len(cells)} settings have these values; give more: "
                f"{'; '.join(map(self._name, cells))}"
            )
        return find_metric(metric).figure(cells[0], self.summary.time_scale)

    def assert_at_most(
        self, metric: str, limit: float, *, proven: bool = True, **settings: Any
    ) -> None:
        """Fail unless a metric is at most `limit` in every setting with these values.

        `proven`: its whole interval must be. Otherwise the test fails only if the interval is
        above. Raises InputError for unknown metrics and settings.
        """
        __tracebackhide__ = True
        self._assert(metric, limit, "above", proven, settings)

    def assert_at_least(
        self, metric: str, limit: float, *, proven: bool = True, **settings: Any
    ) -> None:
        """The same for a lower limit."""
        __tracebackhide__ = True
        self._assert(metric, limit, "below", proven, settings)

    def assert_no_regression(self, base: Result | str | Path, fail_on: str | Sequence[str]) -> None:
        """Fail if a rule of `harness compare --fail-on` is broken, compared with another run."""
        __tracebackhide__ = True
        self._require_whole()
        comparison = compare_results(base, self.result, fail_on)
        broken = [
            f"{one.metric} of {one.cell} changed by {100 * one.change.value:+.1f}"
            f"{' points' if compared_metrics()[one.metric].metric.unit == 'share' else ' %'}, "
            f"against {one.rule!r}"
            for one in comparison.regressions
        ]
        if broken:
            raise AssertionError(f"{'; '.join(broken)}; {self._where}")

    def _assert(
        self, name: str, limit: float, wrong: str, proven: bool, settings: dict[str, Any]
    ) -> None:
        __tracebackhide__ = True
        self._require_whole()
        metric = find_metric(name)
        said = [
            text
            for cell in self.cells(**settings)
            if (text := self._failure(metric, cell, limit, wrong, proven))
        ]
        if said:
            raise AssertionError(f"{'; '.join(said)}; {self._where}")

    def _require_whole(self) -> None:
        __tracebackhide__ = True
        summary = self.summary
        if summary.status != "complete":
            why = f": {summary.stopped.because}" if summary.stopped else ""
            raise AssertionError(f"the run is {summary.status}{why}; {self._where}")

    def _failure(
        self, metric: AssertedMetric, cell: Cell, limit: float, wrong: str, proven: bool
    ) -> str:
        """Return why a cell does not keep a limit; empty if it does."""
        what = f"{metric.words} of {self._name(cell)}"
        figure = metric.figure(cell, self.summary.time_scale)
        if figure is None:
            return f"{what} is not known: {self._why_unknown(metric, cell)}"
        sign = 1 if wrong == "above" else -1
        is_beyond = sign * (figure.value - limit) > 0
        measured = f"{what} is {metric.text(figure.value)} ({self._evidence(metric, cell, figure)})"
        beyond = f"{measured}, {wrong} {metric.text(limit)}"
        if not metric.is_estimate(cell):
            return beyond if is_beyond else ""
        if figure.low is None or figure.high is None:
            return (
                f"{measured}: too few repeats to tell whether it is {wrong} {metric.text(limit)}; "
                "raise sweep.repeats"
                if proven or is_beyond
                else ""
            )
        near, far = (figure.low, figure.high) if sign > 0 else (figure.high, figure.low)
        if sign * (near - limit) > 0:
            return beyond
        if sign * (far - limit) <= 0 or not proven:
            return ""
        bound = near if is_beyond else far
        return (
            f"{measured}: too few workflows to tell whether it is {wrong} {metric.text(limit)}"
            f"{_enough(cell, figure, limit, bound)}"
        )

    def _why_unknown(self, metric: AssertedMetric, cell: Cell) -> str:
        if metric.metric.unit == "USD" and cell.cost_usd is None:
            models = ", ".join(self.summary.unpriced)
            return f"no price{f' for {models}' if models else ''}; {PRICE_WAY_OUT}"
        return f"{_workflows(cell)} are too few, or none succeeded"

    def _evidence(self, metric: AssertedMetric, cell: Cell, figure: Figure) -> str:
        parts = [_workflows(cell)]
        if figure.low is not None and figure.high is not None:
            low, high = (metric.text(at).partition(" ")[0] for at in (figure.low, figure.high))
            parts.insert(0, f"95 % interval {low} to {high}")
        elif metric.is_estimate(cell):
            parts.insert(0, "no interval")
        return ", ".join([*parts, *(["simulated"] if self.summary.simulated else [])])

    def _name(self, cell: Cell) -> str:
        own = settings_of(cell)
        differ = varying(self.summary.cells)
        return ", ".join(f"{name}={own[name]}" for name in differ if name in own) or "the setting"


def _workflows(cell: Cell) -> str:
    count = cell.workflows.started
    return f"{count:,} workflow{'' if count == 1 else 's'}"


def _has(cell: Cell, settings: dict[str, Any]) -> bool:
    own = settings_of(cell)
    return all(name in own and own[name] == value for name, value in settings.items())


def _enough(cell: Cell, figure: Figure, limit: float, bound: float) -> str:
    """Return about how many workflows would tell, if the estimate stays; empty if too many.

    The width of an interval goes down with the root of their number.
    """
    distance = abs(figure.value - limit)
    if not distance:
        return ", nor with any number, as it is the limit"
    count = math.ceil(cell.workflows.started * ((bound - figure.value) / distance) ** 2 - 1e-9)
    if count > _MOST_WORKFLOWS:
        return f"; more than {_MOST_WORKFLOWS:,} are needed"
    each = max(1, round(cell.workflows.started / max(cell.repeats, 1)))
    return f"; about {count:,} are needed ({math.ceil(count / each):,} repeats of {each:,})"


Runner = Callable[..., CheckedRun]
"""What the fixture `harness_run` is."""
