"""The recorded end of one run of each shipped scenario, and what the terminal shows of it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import msgspec
from rich.console import Console

from harness.analysis.model import Summary
from harness.bench.scenario_file import load_scenario
from harness.config import shipped_scenarios
from harness.report.console import say
from harness.report.first_screen import first_screen
from harness.report.next_steps import Rerun

DATA = Path(__file__).parent / "data"
WIDTHS = (80, 120)


def names() -> list[str]:
    """Return the names of the shipped scenarios."""
    return list(shipped_scenarios.described())


def recorded(name: str) -> Summary:
    """Return the recorded summary of a scenario."""
    whole = gzip.decompress((DATA / f"{name}.summary.json.gz").read_bytes())
    return msgspec.json.decode(whole, type=Summary)


def record(name: str, summary: bytes) -> None:
    """Store the summary of a scenario; the same summary gives the same bytes."""
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.summary.json.gz").write_bytes(gzip.compress(summary, mtime=0))


def drawn(summary: Summary, width: int) -> str:
    """Return the first screen of a run on a terminal of this width."""
    name = summary.scenario
    file = io.StringIO()
    directory = Path(f"results/20260101T000000Z-{name}")
    budget = load_scenario(shipped_scenarios.find(name)).budget.model_dump(exclude_none=True)
    lines = first_screen(summary, directory, width, rerun=Rerun(name, budget=budget))
    say(Console(file=file, width=width), *lines)
    return file.getvalue()


def stored(name: str, width: int) -> Path:
    """Return the file with the first screen of a scenario at this width."""
    return DATA / f"{name}.{width}.txt"
