"""The list of all charts. A new chart is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from harness.records.settings import one_at_a_time
from harness.report.charts.attempts import attempts_over_time
from harness.report.charts.cells import latency_throughput, phases, repeats, time_chart
from harness.report.charts.ecdf import latency_ecdf
from harness.report.charts.limits import limits_over_time
from harness.report.charts.model import Chart
from harness.report.charts.permit_lanes import permit_lanes
from harness.report.charts.permits import heat_map, permits
from harness.report.charts.timeline import timeline
from harness.report.charts.tuned_settings import tuned_settings
from harness.report.tables import Subject

PageSection = Literal["tuned", "compared", "spent", "policies"]
"""A section of the page with charts."""


def _always(_: Subject) -> bool:
    return True


def _never(_: Subject) -> bool:
    return False


def _has_curves(about: Subject) -> bool:
    fixed = [cell for cell in about.cells if not one_at_a_time(cell.mode) and not cell.limiter]
    return len({cell.permits for cell in fixed}) > 1


def _has_no_curves(about: Subject) -> bool:
    return not _has_curves(about)


class NamedChart(NamedTuple):
    """A chart: the name of its files, its section, its function (None for nothing to show).

    `folded`: whether the page shows only its title and its finding until a reader unfolds it.
    """

    name: str
    section: PageSection
    make: Callable[[Subject], Chart | None]
    folded: Callable[[Subject], bool] = _always


CHARTS: tuple[NamedChart, ...] = (
    NamedChart("tuned-settings", "tuned", tuned_settings, _never),
    NamedChart("latency-throughput", "compared", latency_throughput, _has_curves),
    NamedChart("permits", "compared", permits, _has_no_curves),
    NamedChart("latency-ecdf", "compared", latency_ecdf, _never),
    NamedChart("repeats", "compared", repeats),
    NamedChart("time-spent", "spent", time_chart, _never),
    NamedChart("phases", "spent", phases),
    NamedChart("timeline", "spent", timeline),
    NamedChart("permit-lanes", "spent", permit_lanes),
    NamedChart("limits", "spent", limits_over_time, _never),
    NamedChart("heat-map", "policies", heat_map),
    NamedChart("attempts-over-time", "policies", attempts_over_time, _never),
)
"""Every chart, in the order of the page."""

Charts = Mapping[str, Chart | None]
"""Charts of a run by name; None for one with nothing to show. One that failed is missing."""
