"""How numbers and settings are written wherever people read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import CellSettings, policy_of, swept_keys, varying

MODE_NAMES = ("sync", "threads", "async")
"""The modes in the order in which they are shown."""

NONE = "—"
"""Stands where there is no number."""


def number(value: float | None) -> str:
    """Write three significant digits, at most nine decimals and no exponent; `NONE` for None."""
    if value is None:
        return NONE
    rounded = float(f"{value:.3g}")
    if abs(rounded) < 5e-10:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{min(decimals, 9)}f}" if decimals > 0 else f"{value:.0f}"


def short_count(count: int) -> str:
    """Write a count in at most five characters: `950`, `12.3k`, `4.56M`."""
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{number(count / (1_000_000 if letter == 'M' else 1000))}{letter}"
    return str(count)


def counted(n: int, noun: str) -> str:
    """Write `1 cell`, `2 cells`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def value_of(figure: Figure | None) -> float | None:
    """Return the number without its interval."""
    return None if figure is None else figure.value


def percent(share: float) -> str:
    """Write a share (0 to 1) in whole percent; what is more than nothing is never written as 0."""
    return "<1\u00a0%" if 0 < share < 0.005 else f"{share * 100:.0f}\u00a0%"


def with_interval(figure: Figure | None) -> str:
    """Write `value (low–high)`, or the value alone when its interval cannot be had."""
    if figure is None:
        return NONE
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{number(figure.value)} ({number(figure.low)}–{number(figure.high)})"


def scaled(figure: Figure | None, by: float) -> Figure | None:
    """Return the figure and its bounds times `by`."""
    if figure is None:
        return None
    return Figure(
        value=figure.value * by,
        low=None if figure.low is None else figure.low * by,
        high=None if figure.high is None else figure.high * by,
    )


def in_seconds(figure: Figure | None, summary: Summary) -> Figure | None:
    """Return a duration in scenario seconds."""
    return scaled(figure, 1 / summary.time_scale)


def rate_unit(summary: Summary) -> tuple[str, float]:
    """Return `a minute` or `an hour`, whichever gives the fastest cell a number above 1.

    With it comes the factor from workflows per real second to workflows per scenario minute or
    hour.
    """
    rates = [cell.throughput.workflows_per_s for cell in summary.cells]
    fastest = max((rate.value for rate in rates if rate is not None), default=0.0)
    minute = 60 * summary.time_scale
    return ("a minute", minute) if fastest * minute >= 1 else ("an hour", 60 * minute)


def simulated_note(summary: Summary) -> str:
    """Say that a run was simulated and what its seconds are; empty for a live endpoint."""
    if not summary.simulated:
        return ""
    how = "virtual time" if summary.virtual else f"time scale {summary.time_scale:g}"
    return f"Simulated, {how}; seconds are scenario seconds."


def shortened(names: Iterable[str], limit: int) -> dict[str, str]:
    """Give each name at most `limit` (at least 4) characters, and no two names the same ones.

    The end is left out first, then the middle, then the beginning; names that still look alike
    are numbered.
    """
    distinct = list(dict.fromkeys(names))
    keep = limit - 1
    half = keep // 2
    cuts: list[Callable[[str], str]] = [
        lambda name: name[:keep] + "…",
        lambda name: name[: keep - half] + "…" + name[len(name) - half :],
        lambda name: "…" + name[len(name) - keep :],
    ]
    for cut in cuts:
        short = {name: name if len(name) <= limit else cut(name) for name in distinct}
        if len(set(short.values())) == len(distinct):
            return short
    return {name: f"{name[: limit - len(str(at)) - 1]}…{at}" for at, name in enumerate(distinct, 1)}


def cell_labels(cells: Sequence[Cell], limit: int = 24) -> dict[str, str]:
    """Name each cell by what tells it from the others: `sync`, `async 8 · full-jitter`.

    Other settings are named only where they vary; `limit` is the longest name of a value.
    """
    differences = other_differences(cells, limit)
    labels = {}
    for cell in cells:
        first = "sync" if cell.mode == "sync" else f"{cell.mode} {cell.permits}"
        labels[cell.id] = " · ".join([first, *differences[cell.id]])
    return labels


def other_differences(cells: Sequence[Cell], limit: int) -> dict[str, list[str]]:
    """Name, by cell, the settings beyond mode and permits in which the cells differ.

    `limit` is the longest name of a value.
    """
    different = varying(cells)
    keys = [key for key in swept_keys(cells) if key.key in different]
    retries = shortened((cell.retry for cell in cells), limit)
    phrases = [shortened(map(key.phrase, cells), limit) for key in keys]
    return {
        cell.id: [
            *([retries[cell.retry]] if "retry" in different else []),
            *([f"per {cell.permit_scope}"] if "permit_scope" in different else []),
            *(short[key.phrase(cell)] for key, short in zip(keys, phrases, strict=True)),
        ]
        for cell in cells
    }


def spoken(cell: Cell, cells: Sequence[Cell]) -> str:
    """Name a cell in a sentence: `async with 8 permits and retry full-jitter`.

    Settings beyond mode and permits are named only where `cells` vary in them.
    """
    different = varying(cells)
    several = [] if cell.mode == "sync" else [f"{cell.permits} permit{'s'[: cell.permits > 1]}"]
    if "retry" in different:
        several.append(f"retry {cell.retry}")
    if "permit_scope" in different:
        several.append(f"a permit per {cell.permit_scope}")
    several += [key.phrase(cell) for key in swept_keys(cells) if key.key in different]
    joined = ", ".join(several[:-1]) + (" and " if several[1:] else "") + "".join(several[-1:])
    return f"{cell.mode} with {joined}" if joined else cell.mode


def losses(cell: Cell) -> str:
    """Return ` (19 of 24 workflows ok)`, or nothing when all are: no cell is praised without."""
    ok, started = cell.workflows.ok, cell.workflows.started
    return f" ({ok} of {started} workflows ok)" if ok < started else ""


def headline(cells: Iterable[Cell], summary: Summary) -> Cell:
    """Return the cell that a title speaks of: the recommended one if it is among `cells`.

    Else what succeeded comes before speed: a cell that drops its work is fast.
    """

    def worth(cell: Cell) -> tuple[bool, int, float]:
        fast = value_of(cell.throughput.workflows_per_s) or 0.0
        return cell.id == summary.recommendation.cell, cell.workflows.ok, fast

    return max(cells, key=worth)


def sentence(text: str) -> str:
    """Begin with a capital letter."""
    return text[:1].upper() + text[1:]


_C = TypeVar("_C", bound=CellSettings)


def in_reading_order(cells: Iterable[_C]) -> list[_C]:
    """Put cells that differ only in mode and permits side by side: sync first, then upwards.

    The other settings keep the order in which they first appear.
    """
    listed = list(cells)
    policies = list(dict.fromkeys(map(policy_of, listed)))
    return sorted(
        listed,
        key=lambda cell: (
            policies.index(policy_of(cell)),
            MODE_NAMES.index(cell.mode),
            cell.permits,
        ),
    )
