"""What charts, pages and plots are made from, of a summary and its records."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.model import Summary
from harness.analysis.selection import Dataset
from harness.report.charts import catalogue
from harness.report.charts.model import Chart
from harness.report.html import page
from harness.report.plots.draw import save_plot
from harness.report.tables import Subject, subject
from harness.store.run_directory import Records
from harness.telemetry.jaeger import Jaeger
from tests.analysis.builders import make_run

EMPTY = Dataset(make_run(), [], [], [], [], None)


def about(summary: Summary, records: Records = EMPTY) -> Subject:
    return subject(summary, records)


def charts_of(summary: Summary, records: Records) -> dict[str, Chart | None]:
    """Return every chart of a run by its name."""
    whole = about(summary, records)
    return {named.name: named.make(whole) for named in catalogue.CHARTS}


def render_report(summary: Summary, records: Records, jaeger: Jaeger | None = None) -> str:
    return page.render_report(about(summary, records), charts_of(summary, records), None, jaeger)


def save_report(summary: Summary, records: Records, directory: Path) -> Path:
    return page.save_report(about(summary, records), charts_of(summary, records), directory)


def draw_all(summary: Summary, records: Records, directory: Path) -> list[Path]:
    """Write every plot of a run and return the paths."""
    charts = charts_of(summary, records)
    return [
        path for name, chart in charts.items()
        for path in save_plot(chart, name, summary, directory)
    ]  # fmt: skip
