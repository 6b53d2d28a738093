"""Writes the page of a twin: its curves over what was measured. One file that loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.report.charts.model import Chart
from harness.report.charts.twin import length_chart, limit_chart, pace_chart, ttft_chart
from harness.report.html.templating import fill_template, write_page
from harness.report.tables import csv_of_scenario
from harness.twin.twin_curves import PartText, TwinCurves


class _Section(NamedTuple):
    """A section of the page. `prefixes`: how the names of its parts begin."""

    name: str
    title: str
    prefixes: tuple[str, ...]
    make: Callable[[TwinCurves], Chart | None]


_SECTIONS = (
    _Section("pace", "Time per token", ("pace", "prompts", "tokens a chunk"), pace_chart),
    _Section(
        "ttft", "Time to first token", ("time to first token", "connecting", "slots"), ttft_chart
    ),
    _Section("lengths", "Lengths", ("lengths",), length_chart),
    _Section("limits", "Limits", ("concurrency cap", "rate", "Retry-After"), limit_chart),
)


class _Shown(NamedTuple):
    name: str
    title: str
    parts: Sequence[PartText]
    chart: Chart | None

    @property
    def unknown(self) -> list[str]:
        """What the records cannot tell of the parts."""
        return [text for part in self.parts for text in part.unknown]


def render_twin(curves: TwinCurves, name: str) -> str:
    """Return the page of the twin `name`. Equal curves give equal text."""
    return fill_template(
        "twin.html",
        ("script.js", "crosshair.js"),
        curves=curves,
        name=name,
        sections=list(_sections(curves)),
        csv_of=partial(csv_of_scenario, scenario=name, simulated=curves.simulated),
    )


def save_twin(curves: TwinCurves, path: Path) -> None:
    """Write the page of a twin, which is named after the file. Raises StorageError."""
    write_page(path, render_twin(curves, path.stem))


def _sections(curves: TwinCurves) -> Iterator[_Shown]:
    rest = list(curves.parts)
    for name, title, prefixes, make in _SECTIONS:
        mine = [part for part in rest if part.name.startswith(prefixes)]
        rest = [part for part in rest if part not in mine]
        yield _Shown(name, title, mine, make(curves))
    yield _Shown("others", "Everything else", rest, None)
