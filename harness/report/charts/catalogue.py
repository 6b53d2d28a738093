"""The list of all charts. A new chart is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.report.charts.attempts import attempts_over_time
from harness.report.charts.cells import phases, repeats, sync_async, time_spent
from harness.report.charts.ecdf import latency_ecdf
from harness.report.charts.model import Chart
from harness.report.charts.permit_lanes import permit_lanes
from harness.report.charts.permits import heat_map, permits
from harness.report.charts.timeline import timeline
from harness.report.tables import Subject, subject
from harness.store.run_directory import Records

Section = Literal["compared", "by-phase", "spent", "policies"]
"""The section of the page that shows a chart."""


class NamedChart(NamedTuple):
    """One chart of the list: the name of its files, its section, and what makes it of a run.

    `make` returns None when there is nothing to show.
    """

    name: str
    section: Section
    make: Callable[[Subject, Dataset], Chart | None]


CHARTS: tuple[NamedChart, ...] = (
    NamedChart("sync-async", "compared", sync_async),
    NamedChart("permits", "compared", permits),
    NamedChart("latency-ecdf", "compared", latency_ecdf),
    NamedChart("repeats", "compared", repeats),
    NamedChart("phases", "by-phase", phases),
    NamedChart("time-spent", "spent", time_spent),
    NamedChart("timeline", "spent", timeline),
    NamedChart("permit-lanes", "spent", permit_lanes),
    NamedChart("heat-map", "policies", heat_map),
    NamedChart("attempts-over-time", "policies", attempts_over_time),
)
"""Every chart, in the order of the page."""


def charts_of(
    summary: Summary, records: Records, only: str | None = None
) -> Iterator[tuple[NamedChart, Chart | None]]:
    """Yield the charts of a run, None for one with nothing to show. `only`: the name of one."""
    about, data = subject(summary), Dataset.of(records)
    for named in CHARTS:
        if only in (None, named.name):
            yield named, named.make(about, data)
