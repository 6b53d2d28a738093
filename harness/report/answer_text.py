"""The answer of a run in two sentences: what to do, and why.

They use no term of the harness, so that a reader who has seen nothing else understands them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, assert_never

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import varying, with_permits
from harness.analysis.workflow_failures import REJECTED
from harness.records.settings import CLIENT_KEY, one_at_a_time
from harness.report.answer_claims import (
    by_state,
    candidate_of,
    claim,
    compared,
    in_words,
    no_better_policy,
    points,
    required,
    rivals_text,
    share_of,
    untested,
    what_would_prove_it,
)
from harness.report.failures import most_frequent_failure
from harness.report.tune_proof import ruled_out_text
from harness.report.tune_text import changed_provider
from harness.report.wording import (
    cell_labels,
    change_in_percent,
    could_be_chosen,
    counted,
    ended,
    in_seconds,
    kept,
    lost,
    number,
    scaled,
    sentence,
    speedup,
    times_as,
    with_labels,
)


class RunAnswer(NamedTuple):
    """What a run says, in one sentence, and why, in one more; `reason` can be empty."""

    sentence: str
    reason: str


def run_answer(summary: Summary) -> RunAnswer:
    """Return the answer to the question of the run."""
    if summary.lacking:
        return RunAnswer(
            "Records of this run are missing, so nothing is proven.",
            f"{' '.join(summary.lacking)} Restore the files, or run the scenario again.",
        )
    if not any(map(ended, summary.cells)):
        return RunAnswer("No workflow has ended, so there is no result yet.", "")
    if summary.serves_requests:
        return _served(summary)
    if not any(map(kept, summary.cells)):
        return _no_success(summary)
    if not any(cell.calls.started for cell in summary.cells):
        return RunAnswer(
            "No workflow called the model, so there is nothing to compare.",
            "A program's requests are measured if they go through the openai package, or through "
            "ask of a function with the decorator; each call of ask needs an await "
            "(docs/your-program.md).",
        )
    found = _answer_of(summary)
    parts = (changed_provider(summary), ruled_out_text(summary), found.reason)
    reason = " ".join(part for part in parts if part)
    return found._replace(reason=reason)


def _served(summary: Summary) -> RunAnswer:
    """Return what became of the requests of a gateway."""
    (cell,) = summary.cells
    every, failed = counted(ended(cell), "request"), lost(cell)
    what = f"The gateway served {every} with {with_permits(cell)} and retry {cell.retry}: "
    what += f"{failed} failed." if failed else "none failed."
    middle = in_seconds(cell.success_latency_p50_s, summary)
    rest = "the others" if failed else "them"
    said = [] if middle is None else [f"Half of {rest} took at most {number(middle)} s."]
    return RunAnswer(what, " ".join([*said, most_frequent_failure(summary) if failed else ""]))


def _answer_of(summary: Summary) -> RunAnswer:
    match summary.question:
        case "permits":
            return _permits(summary)
        case "policy":
            return _policy(summary)
        case "hedge":
            return _hedge(summary)
        case "accuracy":
            return _accuracy(summary)
        case "client":
            return _client(summary)
        case _:
            assert_never(summary.question)


def _no_success(summary: Summary) -> RunAnswer:
    failed = sum(cell.workflows.failed for cell in summary.cells)
    degraded = sum(cell.workflows.degraded for cell in summary.cells)
    rejected = sum(row.workflows for row in summary.workflow_failures if row.error == REJECTED)
    how = f"all {failed} failed"
    if degraded:
        how = f"{failed} failed, and {degraded} ended with gaps"
    elif rejected:
        how = f"{failed} failed, and the program rejected the result of {rejected}"
    return RunAnswer(f"No workflow succeeded: {how}.", most_frequent_failure(summary))


def _permits(summary: Summary) -> RunAnswer:
    cell = candidate_of(summary)
    if cell is None:
        return _undecided(summary)
    what, faster = in_words(cell, could_be_chosen(summary)), _over_sync(cell, summary)
    if len(summary.cells) == 1:
        return RunAnswer(
            f"Only one setting ran, so there is nothing to choose: {_kept_share(cell)}.",
            _and_then([_share_proof(summary, cell)]),
        )
    proven = ", ".join([f"Use {what}: {claim(summary)}", *faster])
    sentence = by_state(summary, f"{proven}.", f"{', '.join([what, *faster])}.")
    not_tested = untested(summary, cell)
    said = [f"It kept {share_of(kept(cell), cell)}", *rivals_text(summary), not_tested]
    said += [] if not_tested else _worst_loser(summary, cell)
    said.append(what_would_prove_it(summary))
    return RunAnswer(sentence, _and_then(said))


def _over_sync(cell: Cell, summary: Summary) -> list[str]:
    """Return how much faster than sync a cell is, if the run has a sync cell."""
    faster = speedup(cell, summary.cells)
    if one_at_a_time(cell.mode) or faster is None or faster.value < 1:
        return []
    if summary.recommendation.objective != "makespan":
        return []
    return [f"{times_as(faster, 'fast')} as one call at a time"]


def _worst_loser(summary: Summary, than: Cell) -> list[str]:
    """Return which other cell lost most of its workflows, if one lost more than `than`."""
    others = [cell for cell in summary.cells if cell is not than and lost(cell)]
    worst = max(others, key=_share_lost, default=None)
    if worst is None or _share_lost(worst) <= max(2 * _share_lost(than), 0.02):
        return []
    return [f"{in_words(worst, summary.cells)} lost {share_of(lost(worst), worst)}"]


def _share_lost(cell: Cell) -> float:
    return lost(cell) / max(1, ended(cell))


def _kept_share(cell: Cell) -> str:
    return f"it kept {share_of(kept(cell), cell)}"


def _share_proof(summary: Summary, cell: Cell) -> str:
    keeps = f"it {required(summary, 'keeps')}"
    keeps_not = f"it does not {required(summary, 'keep')}"
    if summary.slo.success_rate is None:  # there is no better setting to compare with
        keeps = f"the share that it keeps is known within {points(summary)}"
    match cell.slo:
        case "proven":
            return f"{keeps} (proven)"
        case "broken":
            return f"{keeps_not} (proven)"
        case "open":
            missing = what_would_prove_it(summary) or "too few workflows ran"
            return f"it is not proven that {keeps}; {missing}"
        case _:
            assert_never(cell.slo)


def _undecided(summary: Summary) -> RunAnswer:
    """Return why there is no candidate although some workflow succeeded."""
    best = max(summary.cells, key=lambda cell: (kept(cell) / max(1, ended(cell)), kept(cell)))
    most = f"{in_words(best, summary.cells)} kept most, {share_of(kept(best), best)}"
    if all(cell.slo == "broken" for cell in summary.cells):
        none = f"No setting {required(summary, 'keeps')} (proven)."
        return RunAnswer(none, _and_then([most]))
    because = summary.recommendation.because
    said = with_labels(because[-1], cell_labels(summary.cells)) if because else ""
    return RunAnswer("No setting can be recommended yet.", said or _and_then([most]))


def _policy(summary: Summary) -> RunAnswer:
    cell = candidate_of(summary)
    if cell is None:
        return _undecided(summary)
    not_tested = untested(summary, cell)
    if not_tested:
        safest = f"policy {cell.retry} is the safest"
        if summary.recommendation.state == "proven":
            safest += f", and it {required(summary, 'keeps')} (proven)"
        return RunAnswer(_and_then([not_tested]), _and_then([safest, what_would_prove_it(summary)]))
    others = [one for one in summary.cells if one is not cell]
    alike = [one for one in others if varying([one, cell]) == ["retry"]]
    worst = max(alike if any(map(lost, alike)) else others, key=_share_lost, default=None)
    losses = f"lost {share_of(lost(cell), cell)}"
    if worst is not None and lost(worst):
        count = "all" if lost(worst) == ended(worst) else str(lost(worst))
        same = "" if ended(worst) == ended(cell) else f" of {ended(worst)}"
        losses += f", {_name_beside(worst, cell, summary)} lost {count}{same}"
    elif others:
        losses += ", and no other policy lost any" if not lost(cell) else ""
    rest = in_words(cell, summary.cells, but="retry")
    what = f"retry policy {cell.retry}" + (f" with {rest}" if rest else "")
    keeps = required(summary, "keeps")
    sentence = by_state(
        summary, f"Use {what}, which {keeps} (proven): it {losses}.", f"{what} {losses}."
    )
    said = [_requests(cell), *no_better_policy(summary)]
    careful = min(others, key=lambda one: (_share_lost(one), one.attempts.total), default=cell)
    if _share_lost(careful) < _share_lost(cell):
        name = _name_beside(careful, cell, summary)
        rivals = summary.recommendation.rivals
        beside = (compared(one, summary) for one in rivals if one.cell == careful.id)
        said.append(" and ".join([f"{name} lost {share_of(lost(careful), careful)}", *beside]))
    return RunAnswer(sentence, _and_then([*said, what_would_prove_it(summary)]))


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
    return f"{share_of(lost(hedged), hedged)} were lost with them, {lost(without)} without"


def _state_of_hedge(summary: Summary, hedged: Cell) -> str:
    advice = summary.recommendation
    match advice.state:
        case "proven":
            cell = candidate_of(summary)
            if cell is None:
                return ""
            which = "hedging" if cell is hedged else in_words(cell, summary.cells)
            return f"use {which}: {claim(summary)}"
        case "leading" | "open":
            return ""
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


_NOT_MEASURED = RunAnswer(
    "Time was virtual, so nothing was measured on this machine.",
    'A run with endpoint.time = "real" measures it.',
)


def _accuracy(summary: Summary) -> RunAnswer:
    if summary.virtual:
        return _NOT_MEASURED
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


_CLIENTS = {"openai": "the openai package", "wire": "the wire client"}


def _client(summary: Summary) -> RunAnswer:
    """Return what the clients take, in the pair of settings with most requests at once."""
    if summary.virtual:
        return _NOT_MEASURED
    taken = [cell for cell in summary.cells if cell.client_cpu_per_attempt_s is not None]
    if not taken:
        return RunAnswer("No trial ran to its end, so nothing is known of the client yet.", "")
    pair = max(_pairs_of_clients(taken), key=lambda pair: pair[0].permits, default=None)
    if pair is None:
        most = max(taken, key=lambda cell: cell.permits)
        client = _CLIENTS[most.settings.get(CLIENT_KEY, summary.clients[0])]
        return RunAnswer(f"{sentence(client)} takes {_cpu(most)} of processor time a request.", "")
    package, wire = pair
    where = in_words(package, summary.cells, but=CLIENT_KEY)
    said = _processor_times(package, wire)
    said = f"with {where}, {said}" if where else said
    medians = _medians(package, wire, summary)
    whose = "a program that uses the openai package has the figures of openai"
    return RunAnswer(f"{sentence(said)}.", _and_then([medians, whose]))


def _processor_times(*cells: Cell) -> str:
    """Return the processor time of a request of two clients."""
    known = [
        (figure, _CLIENTS[cell.settings[CLIENT_KEY]], _cpu(cell))
        for cell in cells
        if (figure := cell.client_cpu_per_attempt_s) is not None
    ]
    (most, name, cost), (least, other, less) = sorted(known, key=lambda one: -one[0].value)
    if not _is_apart(least, most):
        return (
            f"no difference between the clients is proven: {name} takes {cost} of processor time "
            f"a request, {other} {less}"
        )
    times = number(most.value / least.value)
    return (
        f"{name} takes {cost} of processor time a request, {times} times as much as {other} "
        f"({less})"
    )


def _pairs_of_clients(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Return the cells with the openai package, each with that of the wire client like it."""
    client = {cell.id: cell.settings.get(CLIENT_KEY) for cell in cells}
    return [
        (one, other)
        for one in cells
        for other in cells
        if client[one.id] == "openai" and client[other.id] == "wire"
        and varying([one, other]) == [CLIENT_KEY]
    ]  # fmt: skip


def _cpu(cell: Cell) -> str:
    figure = cell.client_cpu_per_attempt_s
    return f"{number(None if figure is None else 1000 * figure.value)} ms"


def _is_close(one: Figure | None, other: Figure | None) -> bool:
    """Return whether two figures differ by at most 1 %."""
    return (
        one is not None and other is not None and math.isclose(one.value, other.value, rel_tol=0.01)
    )


def _medians(package: Cell, wire: Cell, summary: Summary) -> str:
    """Return the median times of both clients that tell them apart."""
    said = []
    for what, spreads in (
        ("the first text comes after", (package.ttft_s, wire.ttft_s)),
        ("the client wait is", (package.client_wait_s, wire.client_wait_s)),
    ):
        figures = [scaled(in_seconds(spread.p50, summary), 1000) for spread in spreads]
        if all(figures):
            one, other = (f"{number(figure)} ms" for figure in figures)
            is_same = _is_close(*(spread.p50 for spread in spreads))
            beside = "with both clients" if is_same else f"instead of {other}"
            said.append(f"{what} {one} {beside}")
    return f"in the median, {' and '.join(said)}" if said else ""


def _and_then(parts: Sequence[str]) -> str:
    """Join clauses into a sentence."""
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
