"""How numbers, cells and settings are written for people."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, assert_never

from harness.analysis.model import Cell, Figure, Recommendation, Summary
from harness.analysis.settings import (
    CellSettings,
    identity,
    permits_setting,
    policy_of,
    swept_keys,
    varying,
    with_permits,
)
from harness.records.schema import CellInfo, Run
from harness.records.settings import one_at_a_time

MODE_NAMES = ("sync", "serial", "threads", "async")
"""The modes in the order in which they are shown."""

NONE = "—"
"""Written in place of a missing number."""

PART_WORDS = {
    "permit_wait": "permit wait",
    "client_wait": "client wait",
    "backoff": "backoff",
    "failed_attempts": "failed attempts",
    "to_first_token": "first token",
    "reasoning": "reasoning",
    "answer": "answer",
    "other": "other",
    "program": "program",
}
"""The name of each part of a critical path, in the order of `call_segments.PATH_PARTS`."""


def number(value: Figure | float | None) -> str:
    """Write three significant digits, at most nine decimals and no exponent; `NONE` for None."""
    value = value.value if isinstance(value, Figure) else value
    if value is None:
        return NONE
    rounded = float(f"{value:.3g}")
    if abs(rounded) < 5e-10:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{min(decimals, 9)}f}" if decimals > 0 else f"{value:.0f}"


def times_as(ratio: Figure | float, word: str) -> str:
    """Write `2.50 times as fast`; `as fast` where the ratio is written as 1."""
    return f"as {word}" if is_one(ratio) else f"{number(ratio)} times as {word}"


def is_one(ratio: Figure | float) -> bool:
    """Return whether a ratio is written as 1."""
    return float(number(ratio)) == 1


def short_count(count: float) -> str:
    """Write a count in at most five characters: `950`, `12.3k`, `4.56M`."""
    if count >= 1_000_000:
        return f"{number(count / 1_000_000)}M"
    return f"{number(count / 1000)}k" if count >= 10_000 else f"{count:.0f}"


def whole_number(value: float) -> str:
    """Write all digits of a count."""
    return f"{value:.0f}"


def counted(n: int, noun: str) -> str:
    """Write `1 cell`, `2 cells`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def tried_settings(summary: Summary) -> str:
    """Write `6 settings`, or `6 of 40 settings tried` of a tune."""
    if summary.tune is None:
        return counted(len(summary.cells), "setting")
    return f"{len(summary.cells)} of {counted(len(summary.tune.settings), 'setting')} tried"


def repeats_of(cells: Sequence[Cell]) -> str:
    """Write `5 repeats`, or `4 to 12 repeats` where cells have fewer than others."""
    repeats = {cell.repeats for cell in cells} or {0}
    least, most = min(repeats), max(repeats)
    return f"{least} to {counted(most, 'repeat')}" if least < most else counted(most, "repeat")


def value_of(figure: Figure | None) -> float | None:
    """Return the number without its interval."""
    return None if figure is None else figure.value


def percent(share: float) -> str:
    """Write a share (0 to 1) in whole percent; a positive share is never written as 0."""
    return "<1\u00a0%" if 0 < share < 0.005 else f"{share * 100:.0f}\u00a0%"


def whole_percent(share: float) -> str:
    """Write a share as `percent` does, without the sign."""
    return percent(share).removesuffix("\u00a0%")


def narrow_percent(share: float) -> str:
    """Write a share as `percent` does, without the space."""
    return percent(share).replace("\u00a0", "")


def change_in_percent(ratio: float) -> str:
    """Write a ratio as a change: 0.9 as `−10 %`."""
    change = round(100 * (ratio - 1))
    return f"{'+' if change > 0 else '−' if change < 0 else ''}{abs(change)}\u00a0%"


def with_interval(figure: Figure | None) -> str:
    """Write `value (low–high)`, or only the value when it has no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return number(figure)
    return f"{number(figure)} ({number(figure.low)}–{number(figure.high)})"


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
    """Return `a minute` or `an hour`, and the factor to it from workflows per real second."""
    rates = [cell.throughput.workflows_per_s for cell in summary.cells]
    fastest = max((rate.value for rate in rates if rate is not None), default=0.0)
    minute = 60 * summary.time_scale
    return ("a minute", minute) if fastest * minute >= 1 else ("an hour", 60 * minute)


def simulated_line(about: Summary | Run) -> str:
    """Return a line that says that a run was simulated; empty for a live endpoint."""
    if not about.simulated:
        return ""
    match about.marked_answers:
        case "none":
            how = "in virtual time" if about.virtual else f"at time scale {about.time_scale:g}"
            return f"SIMULATED {how}: durations are in scenario seconds"
        case "some":
            return "SIMULATED in part: some answers have the mark of the simulated provider"
        case "all":
            return "SIMULATED by the endpoint: its answers have the mark of the simulated provider"
        case _:
            assert_never(about.marked_answers)


def simulated_note(summary: Summary) -> str:
    """Return the same as a sentence."""
    line = simulated_line(summary)
    return f"{line.capitalize()}." if line else ""


def shortened(names: Iterable[str], limit: int) -> dict[str, str]:
    """Shorten each name to at most `limit` (at least 4) characters; distinct names stay so."""
    distinct = list(dict.fromkeys(names))
    keep = limit - 1
    half = keep // 2
    cuts: list[Callable[[str], str]] = [
        lambda name: name[: keep - half] + "…" + name[len(name) - half :],
        lambda name: name[:keep] + "…",
        lambda name: "…" + name[len(name) - keep :],
    ]
    for cut in cuts:
        short = {name: name if len(name) <= limit else cut(name) for name in distinct}
        if len(set(short.values())) == len(distinct):
            return short
    return {name: f"{name[: limit - len(str(at)) - 1]}…{at}" for at, name in enumerate(distinct, 1)}


def cell_labels(
    cells: Sequence[CellInfo | Cell], limit: int = 24, *, brief: bool = False
) -> dict[str, str]:
    """Return a short name for each cell by its id: `sync`, `async 8 · full-jitter`.

    Other settings are included only where they vary. `brief`: of a text only the value.
    """
    differences = other_differences(cells, limit, brief=brief)
    labels = {}
    for cell in cells:
        first = cell.mode if one_at_a_time(cell.mode) else f"{cell.mode} {permits_setting(cell)}"
        labels[cell.id] = " · ".join([first, *differences[cell.id]])
    return labels


def other_differences(
    cells: Sequence[CellInfo | Cell], limit: int, *, brief: bool = False
) -> dict[str, list[str]]:
    """Return how cells differ except in mode and permits; `limit`: the longest name of a value."""
    different = varying(cells)
    keys = [key for key in swept_keys(cells) if key.key in different]
    retries = shortened((cell.retry for cell in cells), limit)
    said = [key.brief if brief else key.phrase for key in keys]
    phrases = [shortened(map(phrase, cells), limit) for phrase in said]
    return {
        cell.id: [
            *([retries[cell.retry]] if "retry" in different else []),
            *([f"per {cell.permit_scope}"] if "permit_scope" in different else []),
            *(short[phrase(cell)] for phrase, short in zip(said, phrases, strict=True)),
        ]
        for cell in cells
    }


def with_labels(text: str, labels: Mapping[str, str]) -> str:
    """Return a text with the ids of cells replaced by their labels."""
    ids = sorted(map(re.escape, labels), key=len, reverse=True)
    whole = rf"(?<![\w-])(?:{'|'.join(ids)})(?![\w-])"
    return re.sub(whole, lambda found: labels[found.group()], text) if ids else text


def could_be_chosen(summary: Summary) -> Sequence[CellInfo | Cell]:
    """Return the settings among which a run chooses; those of a tune need not have a trial."""
    if summary.tune is None:
        return summary.cells
    return [*summary.cells, *(one.info for one in summary.tune.settings)]


def spoken(cell: Cell, cells: Sequence[CellInfo | Cell]) -> str:
    """Return the name of a cell in a sentence: `async with 8 permits and retry full-jitter`."""
    different = varying(cells)
    several = [] if one_at_a_time(cell.mode) else [with_permits(cell)]
    if "retry" in different:
        several.append(f"retry {cell.retry}")
    if "permit_scope" in different:
        several.append(f"a permit per {cell.permit_scope}")
    several += [key.phrase(cell) for key in swept_keys(cells) if key.key in different]
    joined = ", ".join(several[:-1]) + (" and " if several[1:] else "") + "".join(several[-1:])
    return f"{cell.mode} with {joined}" if joined else cell.mode


def ended(cell: Cell) -> int:
    """Return how many workflows of a cell ended, whether or not they succeeded."""
    return cell.workflows.ok + cell.workflows.degraded + cell.workflows.failed


def kept(cell: Cell) -> int:
    """Return how many workflows of a cell succeeded in time; a degraded one can."""
    if cell.success_rate is None:
        return 0
    return round(cell.success_rate.value * ended(cell)) - cell.late


def keeps_enough(cell: Cell) -> bool:
    """Return whether a cell kept any workflow and is not proven to keep too few."""
    return kept(cell) > 0 and cell.slo != "broken"


def is_equal_work(cell: Cell, cells: Iterable[Cell]) -> bool:
    """Return whether a speed-up of a cell over its sync cell compares about as much kept work."""
    syncs = (one for one in cells if one_at_a_time(one.mode) and policy_of(one) == policy_of(cell))
    return all(map(keeps_enough, [cell, *syncs]))


def baseline(cells: Iterable[Cell]) -> str:
    """Return the mode that speed-ups refer to: one call at a time."""
    return next((cell.mode for cell in cells if one_at_a_time(cell.mode)), "sync")


def speedup(cell: Cell, cells: Iterable[Cell]) -> Figure | None:
    """Return the speed-up of a cell over sync; None if one of the two lost too much work."""
    return cell.speedup_over_sync if is_equal_work(cell, cells) else None


def left_out_note(cells: Iterable[Cell], labels: Mapping[str, str], what: str) -> list[str]:
    """Return a note that names the cells that lost too much to show `what`; empty without one."""
    names = ", ".join(labels[cell.id] for cell in cells if ended(cell) and not keeps_enough(cell))
    return [f"Settings that lost too many workflows have no {what}: {names}."] if names else []


def dropped_text(cell: Cell, summary: Summary) -> str:
    """Return when a look dropped a cell: `after 3 repeats`, of a tune `after block 3`.

    Empty if none did. A block of a tune need not have a trial of the cell.
    """
    if cell.dropped_after is None:
        return ""
    if summary.tune is not None:
        return f"after block {cell.dropped_after}"
    return f"after {counted(cell.dropped_after, 'repeat')}"


def dropped_note(cells: Iterable[Cell], labels: Mapping[str, str], summary: Summary) -> list[str]:
    """Return a note that names the cells that were dropped before the end; empty without one."""
    dropped = [(labels[cell.id], dropped_text(cell, summary)) for cell in cells]
    names = ", ".join(f"{label} {when}" for label, when in dropped if when)
    return [f"Dropped before the end, so with wider intervals: {names}."] if names else []


def lost(cell: Cell) -> int:
    """Return how many workflows of a cell ended without success."""
    return ended(cell) - kept(cell)


def warm_up_note(summary: Summary) -> str:
    """Return how many calls are in no statistic and what they cost; empty without one."""
    seen = summary.cold_start
    if seen is None or not seen.warmup_calls:
        return ""
    said = [f"{counted(seen.warmup_calls, 'warm-up call')} before the trials (load.warmup_calls)"]
    said.append(counted(seen.warmup_tokens, "token"))
    if seen.warmup_usd is not None:
        said.append(f"{number(seen.warmup_usd)} USD")
    if failed := sum(seen.failed.values()):
        said.append(f"{failed} failed")
    return f"Not in the statistics: {', '.join(said)}."


def never_ended(summary: Summary) -> int:
    """Return how many workflows never ended, of those that were planned, or else begun."""
    planned = summary.planned_workflows
    begun = sum(cell.workflows.started for cell in summary.cells)
    return (begun if planned is None else planned) - sum(map(ended, summary.cells))


def losses(cell: Cell) -> str:
    """Return ` (19 of 24 workflows ok)`, or an empty string when all workflows are ok."""
    ok, started = cell.workflows.ok, cell.workflows.started
    return f" ({ok} of {started} workflows ok)" if ok < started else ""


def headline(cells: Iterable[Cell], summary: Summary) -> Cell:
    """Return the cell to show in a title: the recommended or leading one if it is among `cells`.

    Otherwise the cell with most successful workflows, then the fastest: lost work looks fast.
    """

    def worth(cell: Cell) -> tuple[bool, int, float]:
        fast = value_of(cell.throughput.workflows_per_s) or 0.0
        return cell.id == summary.recommendation.candidate, cell.workflows.ok, fast

    return max(cells, key=worth)


def recommendation_heading(summary: Summary) -> str:
    """Return what the recommendation is called."""
    if summary.recommendation.candidate is None:
        return "No setting can be recommended"
    objective = summary.recommendation.objective.replace("_", " ")
    state = summary.recommendation.state
    match state:
        case "proven":
            return f"Recommended for the least {objective}"
        case "leading" | "open":
            return f"Leading candidate for the least {objective}"
        case _:
            assert_never(state)


def proof_text(advice: Recommendation) -> str:
    """Return a sentence about what is proven of the recommendation."""
    match advice.state:
        case "proven":
            return "Its success rate and its lead are proven."
        case "leading":
            is_lead = advice.settles_with is not None and advice.settles_with.missing == "lead"
            return f"Not proven yet: its {'lead' if is_lead else 'success rate'}."
        case "open":
            return "Nothing is proven yet." if advice.candidate else "Nothing is proven."
        case _:
            assert_never(advice.state)


def code_heading(summary: Summary) -> str:
    """Return the heading of the code to paste."""
    which = "recommended setting" if summary.recommendation.cell else "leading candidate"
    if not summary.has_simulator:
        return f"Code for the {which}"
    return f"Code for the {which} (set OPENAI_BASE_URL and OPENAI_API_KEY)"


def sentence(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


_C = TypeVar("_C", bound=CellSettings)


def in_reading_order(cells: Iterable[_C]) -> list[_C]:
    """Return cells that differ only in mode and permits one after the other, sync first.

    Limits that adapt come after the fixed numbers of permits.
    """
    listed = list(cells)
    policies = list(dict.fromkeys(map(policy_of, listed)))

    def place(cell: _C) -> tuple[int, int, str, int]:
        mode = MODE_NAMES.index(cell.mode)
        return policies.index(policy_of(cell)), mode, cell.limiter, cell.permits

    return sorted(listed, key=place)


def side_by_side(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells that differ only in the retry policy one after the other."""
    retries = list(dict.fromkeys(cell.retry for cell in cells))
    alike = {cell.id: identity(cell, ("mode", "permits", "retry")) for cell in cells}
    others = list(dict.fromkeys(alike.values()))

    def place(cell: Cell) -> tuple[int, str, int, int, int]:
        other, retry = others.index(alike[cell.id]), retries.index(cell.retry)
        return MODE_NAMES.index(cell.mode), cell.limiter, cell.permits, other, retry

    return sorted(cells, key=place)


def bottleneck_text(summary: Summary) -> str:
    """Return a sentence about what limited the measurement."""
    limited = summary.verdict.bottleneck
    if limited != "none":
        return f"The {limited} was the bottleneck: some figures describe it, not the endpoint."
    if summary.virtual:
        return "Time was virtual, so neither the client nor the simulator could be too slow."
    if summary.has_simulator:
        return "Neither the client nor the simulator was the bottleneck."
    return "The client was not the bottleneck."
