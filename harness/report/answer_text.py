"""The answer of a run in two sentences: what to do, and why.

They use no term of the harness, so that a reader who has seen nothing else understands them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, assert_never

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import swept_keys, varying
from harness.report.failures import most_frequent_failure
from harness.report.wording import (
    cell_labels,
    change_in_percent,
    counted,
    ended,
    in_seconds,
    kept,
    lost,
    number,
    percent,
    value_of,
    with_labels,
)


class RunAnswer(NamedTuple):
    """What a run says, in one sentence, and why, in one more; `reason` can be empty."""

    sentence: str
    reason: str


def run_answer(summary: Summary) -> RunAnswer:
    """Return the answer to the question of the run."""
    if not any(map(ended, summary.cells)):
        return RunAnswer("No workflow has ended, so there is no result yet.", "")
    if not any(map(kept, summary.cells)):
        return _no_success(summary)
    match summary.question:
        case "permits":
            return _permits(summary)
        case "policy":
            return _policy(summary)
        case "hedge":
            return _hedge(summary)
        case "accuracy":
            return _accuracy(summary)
        case _:
            assert_never(summary.question)


def in_words(cell: Cell, cells: Sequence[Cell], but: str = "") -> str:
    """Return how a cell differs from others: `8 async calls at once with retry policy x`.

    `but`: the name of a setting that is left out.
    """
    different = [name for name in varying(cells) if name != but]
    several = [f"retry policy {cell.retry}"] if "retry" in different else []
    if "permit_scope" in different:
        keeps = "give up" if cell.permit_scope == "attempt" else "keep"
        scope = f"permit per {cell.permit_scope}"
        several.append(f"calls that {keeps} their place while they wait for a retry ({scope})")
    several += [key.phrase(cell) for key in swept_keys(cells) if key.key in different]
    others = ", ".join(several[:-1]) + (" and " if several[1:] else "") + "".join(several[-1:])
    if not {"mode", "permits"} & set(different) and (others or but):
        return others
    calls = _calls_at_once(cell, names_mode="mode" in different)
    return f"{calls} with {others}" if others else calls


def _calls_at_once(cell: Cell, *, names_mode: bool) -> str:
    if cell.mode == "sync":
        return "one call at a time"
    how = f"{cell.mode} " if names_mode and cell.mode == "async" else ""
    where = f" in {cell.mode}" if names_mode and cell.mode == "threads" else ""
    if cell.permits == 1:
        return f"one {how}call at a time{where}"
    return f"{cell.permits} {how}calls at once{where}"


def _no_success(summary: Summary) -> RunAnswer:
    failed = sum(cell.workflows.failed for cell in summary.cells)
    degraded = sum(cell.workflows.degraded for cell in summary.cells)
    how = f"all {failed} failed"
    if degraded:
        how = f"{failed} failed, and {degraded} ended with gaps"
    return RunAnswer(f"No workflow succeeded: {how}.", most_frequent_failure(summary))


class _Objective(NamedTuple):
    """How an objective is spoken of: `the {best} of 6 settings{for_whom}`.

    `equal`: of one that no other beats. `next_one`: what the next best does by a factor.
    """

    best: str
    better: str
    equal: str
    next_one: str
    for_whom: str = ""


_OBJECTIVES = {
    "makespan": _Objective("fastest", "faster", "as fast", "took {} times as long"),
    "workflow_p95": _Objective(
        "best",
        "better",
        "as good",
        "kept its slowest workflows waiting {} times as long",
        " for the slowest workflows",
    ),
    "cost_per_successful_workflow": _Objective(
        "cheapest", "cheaper", "as cheap", "cost {} times as much"
    ),
}


def _candidate(summary: Summary) -> Cell | None:
    wanted = summary.recommendation.candidate
    return next((cell for cell in summary.cells if cell.id == wanted), None)


def _permits(summary: Summary) -> RunAnswer:
    cell = _candidate(summary)
    if cell is None:
        return _undecided(summary)
    what, faster = in_words(cell, summary.cells), _over_sync(cell, summary)
    if len(summary.cells) == 1:
        return RunAnswer(
            f"Only one setting ran, so there is nothing to choose: {_kept_share(cell)}.",
            _and_then([_share_proof(summary, cell)]),
        )
    claims = [*faster, f"proven {_claim(summary)}"]
    sentence = _by_state(
        summary, f"Use {what}: {', and '.join(claims)}.", f"{', '.join([what, *faster])}."
    )
    said = [f"It kept {_of(kept(cell), cell)}", _next_best(summary), *_worst_loser(summary, cell)]
    said += [_untested(summary), _missing(summary)]
    return RunAnswer(sentence, _and_then(said))


def _by_state(summary: Summary, proven: str, candidate: str) -> str:
    """Return the sentence about a proven cell, or the one about a candidate and what it lacks."""
    match summary.recommendation.state:
        case "proven":
            return proven
        case "leading":
            return f"Best so far, but not proven: {candidate}"
        case "open":
            return f"Ahead, but nothing is proven yet: {candidate}"
        case _:
            assert_never(summary.recommendation.state)


def _untested(summary: Summary) -> str:
    """Return that the retry policies did not differ, if they had nothing to do."""
    if summary.recommendation.retry_exercised or "retry" not in varying(summary.cells):
        return ""
    return "no request failed with it, so retry policies were not tested"


def _over_sync(cell: Cell, summary: Summary) -> list[str]:
    """Return how much faster than sync a cell is, if the run has a sync cell."""
    if cell.mode == "sync" or cell.speedup_over_sync is None:
        return []
    if summary.recommendation.objective != "makespan":
        return []
    return [f"{number(cell.speedup_over_sync)} times as fast as one call at a time"]


def _claim(summary: Summary, noun: str = "setting") -> str:
    """Return what is proven of the recommended cell, after `it is`."""
    words, count = _OBJECTIVES[summary.recommendation.objective], len(summary.cells)
    lead = summary.recommendation.lead_over_next
    some_lose = any(cell.slo == "broken" for cell in summary.cells)
    them = "of them" if words.for_whom else "workflows"
    enough = f"{noun}{words.for_whom} that keeps enough {them}"
    if lead is not None and (lead.low is None or lead.low <= 1):
        others = enough if some_lose else f"of {_plural(noun, count)}{words.for_whom}"
        return f"{words.equal} as any {others}, within {percent(summary.margin)}"
    if some_lose:
        return f"the {words.best} {enough}"
    if count == 2:
        return f"the {words.better} of the two {_plural(noun)}{words.for_whom}"
    return f"the {words.best} of {_plural(noun, count)}{words.for_whom}"


def _plural(noun: str, count: int | None = None) -> str:
    many = "policies" if noun == "policy" else f"{noun}s"
    return many if count is None else f"{count} {many}"


def _next_best(summary: Summary) -> str:
    lead = summary.recommendation.lead_over_next
    if lead is None:
        return ""
    if abs(lead.value - 1) < 0.005:
        return "the next best setting was as good"
    words = _OBJECTIVES[summary.recommendation.objective]
    return f"the next best setting {words.next_one.format(number(lead))}"


def _worst_loser(summary: Summary, than: Cell) -> list[str]:
    """Return which other cell lost most of its workflows, if one lost more than `than`."""
    others = [cell for cell in summary.cells if cell is not than and lost(cell)]
    worst = max(others, key=_share_lost, default=None)
    if worst is None or _share_lost(worst) <= max(2 * _share_lost(than), 0.02):
        return []
    return [f"{in_words(worst, summary.cells)} lost {_of(lost(worst), worst)}"]


def _share_lost(cell: Cell) -> float:
    return lost(cell) / max(1, ended(cell))


def _of(count: int, cell: Cell) -> str:
    """Return `all 100 workflows`, `none of 100 workflows` or `3 of 100 workflows`."""
    whole = ended(cell)
    if count == whole:
        few = {1: "its only workflow", 2: "both workflows"}
        return few.get(whole, f"all {whole} workflows")
    return f"{count or 'none'} of {counted(whole, 'workflow')}"


def _kept_share(cell: Cell) -> str:
    return f"it kept {_of(kept(cell), cell)}"


def _share_proof(summary: Summary, cell: Cell) -> str:
    match cell.slo:
        case "proven":
            return "That it keeps enough of them is proven"
        case "broken":
            return "It keeps too few of them"
        case "open":
            return _missing(summary) or "Too few ran to prove that it keeps enough of them"
        case _:
            assert_never(cell.slo)


def _missing(summary: Summary) -> str:
    """Return what is not proven yet and what would prove it; empty if all is."""
    settles = summary.recommendation.settles_with
    if settles is None:
        return ""
    words = _OBJECTIVES[summary.recommendation.objective]
    what = {
        "slo": "that it keeps enough workflows",
        "lead": f"that it is the {words.best}{words.for_whom}",
        "both": f"that it keeps enough workflows and is the {words.best}{words.for_whom}",
    }[settles.missing]
    if settles.repeats is None:
        return f"no practical number of repeats would prove {what}"
    return f"about {counted(settles.repeats, 'more repeat')} would prove {what}"


def _undecided(summary: Summary) -> RunAnswer:
    """Return why there is no candidate although some workflow succeeded."""
    best = max(summary.cells, key=lambda cell: (kept(cell) / max(1, ended(cell)), kept(cell)))
    most = f"{in_words(best, summary.cells)} kept most, {_of(kept(best), best)}"
    if all(cell.slo == "broken" for cell in summary.cells):
        return RunAnswer("No setting keeps enough workflows.", _and_then([most]))
    because = summary.recommendation.because
    said = with_labels(because[-1], cell_labels(summary.cells)) if because else ""
    return RunAnswer("No setting can be recommended yet.", said or _and_then([most]))


def _policy(summary: Summary) -> RunAnswer:
    cell = _candidate(summary)
    if cell is None:
        return _undecided(summary)
    if _untested(summary):
        return RunAnswer(
            "No request failed, so the retry policies were not tested.",
            _and_then([f"Policy {cell.retry} is the safest of them", _missing(summary)]),
        )
    others = [one for one in summary.cells if one is not cell]
    alike = [one for one in others if varying([one, cell]) == ["retry"]]
    worst = max(alike if any(map(lost, alike)) else others, key=_share_lost, default=None)
    losses = f"lost {_of(lost(cell), cell)}"
    if worst is not None and lost(worst):
        count = "all" if lost(worst) == ended(worst) else str(lost(worst))
        same = "" if ended(worst) == ended(cell) else f" of {ended(worst)}"
        losses += f", {_name_beside(worst, cell, summary)} lost {count}{same}"
    elif others:
        losses += ", nor did any other policy" if not lost(cell) else ""
    rest = in_words(cell, summary.cells, but="retry")
    what = f"retry policy {cell.retry}" + (f" with {rest}" if rest else "")
    sentence = _by_state(summary, f"Use {what} (proven): it {losses}.", f"{what} {losses}.")
    said = [_requests(cell)]
    if summary.recommendation.state == "proven":
        said.append(f"it is proven {_claim(summary, 'policy')}")
    careful = min(others, key=lambda one: (_share_lost(one), one.attempts.total), default=cell)
    if _share_lost(careful) < _share_lost(cell):
        name = _name_beside(careful, cell, summary)
        said.append(f"{name} lost {_of(lost(careful), careful)}{_as_long(careful, cell)}")
    return RunAnswer(sentence, _and_then([*said, _missing(summary)]))


def _as_long(cell: Cell, than: Cell) -> str:
    mine, other = value_of(cell.makespan_s), value_of(than.makespan_s)
    return "" if not mine or not other else f" and took {number(mine / other)} times as long"


def _requests(cell: Cell) -> str:
    sent = cell.attempts.amplification
    return "" if sent is None else f"it sent {number(sent)} requests for each call"


def _name_beside(cell: Cell, other: Cell, summary: Summary) -> str:
    """Return the name of a policy; with the other settings where these differ from `other`."""
    pair = varying([cell, other])
    return f"policy {cell.retry}" if pair == ["retry"] else in_words(cell, summary.cells)


def _hedge(summary: Summary) -> RunAnswer:
    pair = _hedged_pair(summary)
    if pair is None:
        return _permits(summary)
    without, hedged = pair
    tails = [in_seconds(cell.workflow_latency_s.p95, summary) for cell in pair]
    share, before, after = "95\u00a0% of workflows end within", *tails
    if before is None or after is None:
        tails = [in_seconds(cell.workflow_latency_s.p50, summary) for cell in pair]
        share, before, after = "half of the workflows end within", *tails
    if before is None or after is None:
        return RunAnswer("Too few workflows ended to say what second requests save.", "")
    saved = change_in_percent(after.value / before.value).removeprefix("−")
    times = f"{share} {number(after)} s instead of {number(before)} s"
    if _is_apart(after, before):
        sentence = f"Second requests cut the time of the slowest workflows by {saved}: {times}."
    elif _is_apart(before, after):
        sentence = f"Second requests make the slowest workflows slower: {times}."
    else:
        sentence = f"Nothing is proven yet about second requests: {times}, which can be chance."
    said = [
        f"They take {number(hedged.attempts.amplification)} requests for each call instead of "
        f"{number(without.attempts.amplification)}",
        _losses_of_both(without, hedged),
        _state_of_hedge(summary, hedged),
    ]
    return RunAnswer(sentence, _and_then(said))


def _losses_of_both(without: Cell, hedged: Cell) -> str:
    if not lost(without) and not lost(hedged):
        return "no workflow was lost with or without them"
    return f"{_of(lost(hedged), hedged)} were lost with them, {lost(without)} without"


def _state_of_hedge(summary: Summary, hedged: Cell) -> str:
    advice = summary.recommendation
    match advice.state:
        case "proven":
            cell = _candidate(summary)
            if cell is None:
                return ""
            which = "hedging" if cell is hedged else in_words(cell, summary.cells)
            return f"{which} is proven {_claim(summary)}"
        case "leading" | "open":
            return _missing(summary)
        case _:
            assert_never(advice.state)


def _is_apart(less: Figure, more: Figure) -> bool:
    return less.high is not None and more.low is not None and less.high < more.low


def _hedged_pair(summary: Summary) -> tuple[Cell, Cell] | None:
    """Return a cell without and one with second requests, alike but for the policy."""
    hedged = [cell for cell in summary.cells if cell.retry in summary.hedged]
    best = summary.recommendation.candidate
    for cell in sorted(hedged, key=lambda one: one.id != best):
        for other in summary.cells:
            if other.retry not in summary.hedged and varying([other, cell]) == ["retry"]:
                return other, cell
    return None


def _accuracy(summary: Summary) -> RunAnswer:
    if summary.virtual:
        return RunAnswer(
            "Time was virtual, so nothing was measured on this machine.",
            'A run with endpoint.time = "real" measures it.',
        )
    verdict, oracle = summary.verdict, summary.oracle
    because = with_labels(" ".join(verdict.because[:1]), cell_labels(summary.cells))
    lag = oracle.first_text_s if oracle else None
    seen = ""
    if lag is not None:
        half, most = number(1000 * lag.p50), number(1000 * lag.p99)
        seen = f": half of the first texts are seen within {half} ms, 99\u00a0% within {most} ms"
    exact = [cell for cell in summary.cells if cell.id not in verdict.limited_cells]
    limited = [cell for cell in summary.cells if cell.id in verdict.limited_cells]
    if verdict.bottleneck == "none":
        return RunAnswer(f"This machine measures these streams exactly{seen}.", because)
    if not exact or not limited:
        return RunAnswer(
            f"This machine is too slow to measure these streams exactly{seen}.", because
        )
    most_exact = max(exact, key=lambda cell: cell.permits)
    fewest_limited = min(limited, key=lambda cell: cell.permits)
    good, bad = (in_words(cell, summary.cells) for cell in (most_exact, fewest_limited))
    return RunAnswer(f"This machine measures {good} exactly, but not {bad}{seen}.", because)


def _and_then(parts: Sequence[str]) -> str:
    """Join clauses into a sentence."""
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
