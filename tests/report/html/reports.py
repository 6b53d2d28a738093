"""Reports of runs that never happened, with what they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.analysis.model import Summary
from harness.analysis.summary import summarise
from harness.report.wording import cell_labels
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records
from tests.report.html.reading import Element, read
from tests.report.subjects import render_report

IDS = tuple(
    f"{mode}_{retry}_attempt"
    for retry in ("none", "full-jitter")
    for mode in ("sync_1", "threads_2", "threads_8", "async_2", "async_8")
)
SCALE = 0.05


@dataclass
class Report:
    """A report and what it was made from."""

    records: Records
    summary: Summary
    html: str
    document: Element

    @property
    def labels(self) -> dict[str, str]:
        return cell_labels(self.summary.cells)


def report_of(records: Records, summary: Summary | None = None) -> Report:
    summary = summary or summarise(records)
    html = render_report(summary, records)
    return Report(records, summary, html, read(html))


def playable(**fields: Any) -> Records:
    plain: dict[str, Any] = {
        "cells": IDS, "repeats": 3, "workflows": 3, "branches": 2,
        "shape": Shape(failure_rate=0.15), "time_scale": SCALE,
    }  # fmt: skip
    return make_records(**(plain | fields))
