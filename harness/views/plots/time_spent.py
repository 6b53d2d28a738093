"""Where the calls' time went: one stacked bar a cell, and one call cut into the same parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.model import Summary
from harness.failures import OK
from harness.records import Attempt, Call
from harness.views.plots.style import (
    INK,
    PARTS,
    head_beside,
    new_figure,
    rows_of_cells,
    write_beside,
)
from harness.views.wording import (
    cell_labels,
    in_reading_order,
    in_seconds,
    number,
    sentence,
    spoken,
    value_of,
)

_DARK = {"reasoning", "answer", "failed_attempts", "other"}


class Piece(NamedTuple):
    """One part of a call's time, from `start` to `end` in nanoseconds since the run's anchor."""

    part: str
    start: int
    end: int


def pieces(call: Call, attempts: Sequence[Attempt]) -> list[Piece]:
    """Cut a call into the parts of `style.PARTS`, in order of time, without empty ones.

    Added up over calls they are the shares of `analysis.cells.time_spent`.
    """
    cut = [piece for attempt in attempts for piece in _attempt_pieces(attempt)]
    cut += [Piece("backoff", backoff.start, backoff.end) for backoff in call.backoffs]
    if call.attempts == len(call.backoffs):  # it waited for a permit that came too late
        since = call.backoffs[-1].end if call.backoffs else call.ready
        cut.append(Piece("permit_wait", since, call.done))
    return sorted((piece for piece in cut if piece.end > piece.start), key=lambda it: it.start)


def _attempt_pieces(attempt: Attempt) -> Iterator[Piece]:
    sent, first, last = attempt.sent, attempt.first_text, attempt.last_token
    yield Piece("permit_wait", attempt.permit_requested, attempt.permit_granted)
    yield Piece("other", attempt.permit_granted, attempt.done if sent is None else sent)
    if sent is None:
        return
    if attempt.outcome != OK:
        yield Piece("failed_attempts", sent, attempt.done)
    elif first is None or last is None:
        yield Piece("other", sent, attempt.done)
    else:
        answer = last if attempt.first_answer is None else attempt.first_answer
        yield Piece("to_first_token", sent, first)
        yield Piece("reasoning", first, answer)
        yield Piece("answer", answer, last)
        yield Piece("other", last, attempt.done)


def time_spent(summary: Summary) -> Figure | None:
    """Draw the shares of the summed call latency by cell; None when no cell has any."""
    cells = [cell for cell in in_reading_order(summary.cells) if cell.time_spent is not None]
    if not cells:
        return None
    notes = ["Shares of the summed call latency, failed calls included."]
    figure = new_figure(0.8 + 0.34 * len(cells), _title(summary), summary, notes, list(PARTS))
    axes = figure.subplots()
    labels = cell_labels(summary.cells)
    rows_of_cells(axes, [labels[cell.id] for cell in cells])
    for row, cell in enumerate(cells):
        assert cell.time_spent is not None
        start = 0.0
        for part, (_, colour) in PARTS.items():
            share = getattr(cell.time_spent, part) * 100
            axes.barh(
                row, share, left=start, height=0.74, color=colour, edgecolor="white",
                linewidth=0.6, label=f"{part} {cell.id}",
            )  # fmt: skip
            if share >= 4.5:
                _write_share(axes, start + share / 2, row, part, share)
            start += share
        mean = in_seconds(cell.call_latency_s.mean, summary)
        write_beside(axes, row, f"{number(value_of(mean))} s")
    head_beside(axes, "mean call")
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the calls' time")
    axes.grid(visible=False)
    axes.spines[["left"]].set_visible(False)
    return figure


def _write_share(axes: Axes, x: float, row: int, part: str, share: float) -> None:
    colour = "white" if part in _DARK else INK
    axes.text(x, row, f"{share:.0f}", ha="center", va="center", fontsize=8.5, color=colour)


def _title(summary: Summary) -> str:
    """Say which waiting or failing costs most where; the plain heading when nothing does."""
    lost = [
        (getattr(cell.time_spent, part), PARTS[part][0], cell.id)
        for cell in summary.cells
        if cell.time_spent is not None
        for part in ("permit_wait", "backoff", "failed_attempts")
    ]
    share, part, worst = max(lost)
    if share < 0.01:
        return "Hardly any of the calls' time was lost to permit wait, backoff or failed attempts"
    cell = next(cell for cell in summary.cells if cell.id == worst)
    name = spoken(cell, summary.cells)
    lost_share = f"{share * 100:.0f}\u00a0% of its calls' time to {part}"
    return f"{sentence(name)} lost {lost_share}, the most of all cells"
