"""Draws every plot of a run and writes each as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.analysis.model import Summary
from harness.records.errors import StorageError
from harness.report.plots.attempts import attempts_over_time
from harness.report.plots.ecdf import latency_ecdf
from harness.report.plots.heat_map import heat_map
from harness.report.plots.permit_lanes import permit_lanes
from harness.report.plots.permits import permits
from harness.report.plots.repeats import repeats
from harness.report.plots.style import RC, save
from harness.report.plots.sync_async import sync_async
from harness.report.plots.time_spent import time_spent_plot
from harness.report.plots.timeline import timeline
from harness.store.run_directory import Records

PLOTS: tuple[tuple[str, Callable[[Summary, Records], Figure | None]], ...] = (
    ("sync-async", sync_async),
    ("permits", lambda summary, _: permits(summary)),
    ("heat-map", lambda summary, _: heat_map(summary)),
    ("latency-ecdf", latency_ecdf),
    ("time-spent", lambda summary, _: time_spent_plot(summary)),
    ("timeline", timeline),
    ("permit-lanes", permit_lanes),
    ("attempts-over-time", attempts_over_time),
    ("repeats", repeats),
)
"""File name and drawing function of each plot, in the order of the report."""


def draw_all(
    summary: Summary, records: Records, directory: Path, only: str | None = None
) -> list[Path]:
    """Write `directory`/plots/*.svg and *.png and return their paths, plot by plot.

    `only`: the name of the one plot to draw. A plot with nothing to show (no async cell, no
    workflow) is left out, and a file that an earlier drawing left for it is removed. Raises
    StorageError when a file cannot be written.
    """
    plots = directory / "plots"
    written: list[Path] = []
    try:
        plots.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(RC):
            for name, draw in PLOTS:
                if only not in (None, name):
                    continue
                figure = draw(summary, records)
                if figure is not None:
                    written += save(figure, plots, name)
                else:
                    for left in (plots / f"{name}.svg", plots / f"{name}.png"):
                        left.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{plots}: cannot be written ({error.strerror})") from error
    return written
