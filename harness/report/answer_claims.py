"""What a run proves about its settings, in the words of its answer.

The words are those of `answer_text`: no term of the harness that a reader has to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

from harness.analysis.model import Cell, Preference, Rival, Summary
from harness.analysis.settings import identity, swept_keys, varying
from harness.records.schema import CellInfo
from harness.records.settings import one_at_a_time
from harness.report.tune_proof import TuneProof, tune_proof
from harness.report.wording import change_in_percent, counted, ended, is_one, kept, number, percent


def in_words(cell: Cell, cells: Sequence[CellInfo | Cell], but: str = "") -> str:
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
    if one_at_a_time(cell.mode):
        return "one call at a time"
    how = f"{cell.mode} " if names_mode and cell.mode == "async" else ""
    if cell.limiter:
        return f"the limit {cell.limiter} (at most {cell.permits} {how}calls at once)"
    where = f" in {cell.mode}" if names_mode and cell.mode == "threads" else ""
    if cell.permits == 1:
        return f"one {how}call at a time{where}"
    return f"{cell.permits} {how}calls at once{where}"


class _Objective(NamedTuple):
    """How an objective is spoken of: `the {best} of 6 settings{for_whom}`.

    `less`, `equal`, `more`: what another setting did; `less` and `more` by a percentage and by a
    factor.
    """

    best: str
    better: str
    less: str
    equal: str
    more: str
    for_whom: str = ""


_OBJECTIVES = {
    "makespan": _Objective(
        "fastest", "faster", "took {} less time", "was as fast", "took {} as long"
    ),
    "workflow_p95": _Objective(
        "best",
        "better",
        "kept its slowest workflows waiting {} less",
        "was as good",
        "kept its slowest workflows waiting {} as long",
        " for the slowest workflows",
    ),
    "cost_per_successful_workflow": _Objective(
        "cheapest", "cheaper", "cost {} less", "was as cheap", "cost {} as much"
    ),
}


def _words(summary: Summary) -> _Objective:
    return _OBJECTIVES[summary.recommendation.objective]


def candidate_of(summary: Summary) -> Cell | None:
    """Return the cell that is recommended or ahead."""
    return _cell(summary.recommendation.candidate, summary)


def _cell(wanted: str | None, summary: Summary) -> Cell | None:
    return next((cell for cell in summary.cells if cell.id == wanted), None)


def by_state(summary: Summary, proven: str, candidate: str) -> str:
    """Return the sentence about a proven cell, or the one about a candidate and what it lacks."""
    match summary.recommendation.state:
        case "proven":
            return proven
        case "leading" | "open":
            return f"Best so far: {candidate} Not proven yet: {_not_proven(summary)}."
        case _:
            assert_never(summary.recommendation.state)


def _not_proven(summary: Summary) -> str:
    """Return what is not proven of a candidate."""
    settles, words = summary.recommendation.settles_with, _words(summary)
    best = f"that it is the {words.best}{words.for_whom}"
    keeps = f"that it {required(summary, 'keeps')}"
    match "both" if settles is None else settles.missing:
        case "slo":
            return keeps
        case "lead":
            return best
        case "both":
            return f"{keeps}, and {best}"


def required(summary: Summary, verb: Literal["keep", "keeps"]) -> str:
    """Return what a setting has to keep: `keep at least 90 % of workflows`, with this verb."""
    slo, latency = summary.slo, summary.slo.workflow_latency_s
    limit = "" if latency is None else f"{number(latency / summary.time_scale)} s"
    if slo.success_rate is not None:
        share = f"{100 * slo.success_rate:.4g}\u00a0%"
        return f"{verb} at least {share} of workflows" + (f" within {limit}" if limit else "")
    loses = "lose" if verb == "keep" else "loses"
    more = f"{loses} at most {100 * slo.success_margin:.3g} of 100 workflows more than any other"
    return more + (f" (one that takes over {limit} is lost)" if limit else "")


def shortfall(summary: Summary) -> str:
    """Return what a setting does that is proven not to keep what it has to (see `required`)."""
    slo, latency = summary.slo, summary.slo.workflow_latency_s
    limit = "" if latency is None else f" within {number(latency / summary.time_scale)} s"
    if slo.success_rate is not None:
        return f"keeps less than {100 * slo.success_rate:.4g}\u00a0%{limit}"
    return f"loses over {100 * slo.success_margin:.3g} of 100 more than the best"


def untested(summary: Summary, cell: Cell) -> str:
    """Return where retry policies had something to do, if not with the settings of a cell."""
    if summary.recommendation.retry_exercised or "retry" not in varying(summary.cells):
        return ""
    here = in_words(cell, summary.cells, but="retry")
    nothing = f"no request failed{f' with {here}' if here else ''}"
    tested = _tested_elsewhere(summary, cell)
    if not tested:
        return f"{nothing}, so the retry policies were not tested"
    alike = sum(identity(one, ("retry",)) == identity(cell, ("retry",)) for one in summary.cells)
    equal = ""
    if alike > 1:
        equal = f", so the {alike} retry policies did the same there, and the safest is used"
    return f"{nothing}{equal}; requests failed only with {tested}"


def _tested_elsewhere(summary: Summary, cell: Cell) -> str:
    """Return the other settings with which the retry policies of the cells met a failure."""
    mine = identity(cell, ("retry",))
    found: dict[str, str] = {}
    for other in summary.cells:
        setting = identity(other, ("retry",))
        if other.attempts.failed and setting != mine:
            found.setdefault(setting, in_words(other, summary.cells, but="retry"))
    names = list(dict.fromkeys(found.values()))
    if len(names) > 2:
        return f"{len(names)} other settings"
    return " and with ".join(names)


def claim(summary: Summary, noun: str = "setting") -> str:
    """Return what is proven of the recommended cell: that it is the best, and what it keeps."""
    words, count = _words(summary), len(summary.cells)
    keeps = required(summary, "keeps")
    if (proof := tune_proof(summary)) is not None and not proof.is_complete:
        return f"it {keeps}{_lead_in_trials(proof, summary)}"
    rivals = summary.recommendation.rivals
    is_tie = any(one.ratio.low is None or one.ratio.low <= 1 for one in rivals if not _is_twin(one))
    if is_tie or not all(map(_is_twin, _equal(summary))):
        margin = percent(summary.margin)
        return (
            f"it {keeps}, and no such {noun} is {words.better}{words.for_whom} by more "
            f"than {margin} (both proven)"
        )
    if any(cell.slo == "broken" for cell in summary.cells) or any(map(_is_twin, rivals)):
        return f"the {words.best} {noun}{words.for_whom} that {keeps} (proven)"
    several = f"the {words.best} of {_plural(noun, count)}"
    if count == 2:
        several = f"the {words.better} of the two {_plural(noun)}"
    return f"{several}{words.for_whom}, and it {keeps} (both proven)"


def _lead_in_trials(proof: TuneProof, summary: Summary) -> str:
    """Return what trials prove of the lead of a tune, after what is proven to be kept."""
    words = _words(summary)
    better = f"{words.better}{words.for_whom} by more than {percent(summary.margin)}"
    if not proof.compared:
        no_other = (
            f"a twin of the provider expects none to be {better}" if proof.by_twin or proof.apart
            else f"none was {better} in a few trials"
        )  # fmt: skip
        return f" (proven), and of the others that keep as much, {no_other} (not proven)"
    others = "the other setting" if proof.compared == 1 else f"none of {proof.compared} others"
    verb = "is not" if proof.compared == 1 else "is"
    return f", and {others} that trials compared with it {verb} {better} (both proven)"


def _plural(noun: str, count: int | None = None) -> str:
    many = "policies" if noun == "policy" else f"{noun}s"
    return many if count is None else f"{count} {many}"


def _equal(summary: Summary) -> list[Rival]:
    return [rival for rival in summary.recommendation.rivals if rival.place == "equal"]


def _is_twin(rival: Rival) -> bool:
    """Return whether another cell differs only in a retry policy that had nothing to do."""
    return rival.preferred_by == "safety"


_CHOSEN_BY: Mapping[Preference, str] = {
    "safety": "has the safest retry policy",
    "proof": "alone is proven",
    "losses": "loses fewer workflows",
    "attempts": "sends fewer requests",
    "refusals": "gets fewer 429s",
    "permits": "allows fewer calls at once",
    "simplicity": "has the simpler retry policy",
    "objective": "",
}


def rivals_text(summary: Summary) -> Iterator[str]:
    """Yield how the other settings that may meet the SLO compare: ahead, equal and behind."""
    rivals, equal = summary.recommendation.rivals, _equal(summary)
    ahead = [rival for rival in rivals if rival.place == "ahead"]
    if ahead:
        fastest = min(ahead, key=lambda rival: rival.ratio.value)
        cell = _cell(fastest.cell, summary)
        mine = candidate_of(summary)
        if cell is not None and mine is not None:
            has_less = kept(cell) * ended(mine) < kept(mine) * ended(cell)
            share = f"{'but' if has_less else 'and'} kept {share_of(kept(cell), cell)}"
            yield f"{in_words(cell, summary.cells)} {compared(fastest, summary)} {share}"
    if not all(map(_is_twin, equal)):
        are = "setting is" if len(equal) == 1 else "settings are"
        yield f"{len(equal)} other {are} equal within {percent(summary.margin)}{_why(equal)}"
    behind = next((rival for rival in rivals if rival.place == "behind"), None)
    cell = None if behind is None else _cell(behind.cell, summary)
    if behind is not None and cell is not None:
        yield f"the next one, {in_words(cell, summary.cells)}, {compared(behind, summary)}"


def _why(equal: Sequence[Rival]) -> str:
    """Return why one of equal settings was chosen; empty if nothing tells them apart."""
    found = dict.fromkeys(one.preferred_by or "objective" for one in equal)
    reasons = [_CHOSEN_BY[one] for one in found if one != "objective"]
    return f"; this one {' or '.join(reasons)}" if 0 < len(reasons) < 3 else ""


def compared(rival: Rival, summary: Summary) -> str:
    """Return how the objective of another setting compares with the candidate's."""
    words = _words(summary)
    match rival.place:
        case "ahead":
            return words.less.format(change_in_percent(rival.ratio.value).removeprefix("−"))
        case "equal":
            return f"{words.equal} within {percent(summary.margin)}"
        case "behind":
            if is_one(rival.ratio):
                return f"{words.equal} within {percent(rival.ratio.value - 1)}"
            return words.more.format(f"{number(rival.ratio)} times")
        case _:
            assert_never(rival.place)


def share_of(count: int, cell: Cell) -> str:
    """Return `all 100 workflows`, `none of 100 workflows` or `3 of 100 workflows`."""
    whole = ended(cell)
    if count == whole:
        few = {1: "its only workflow", 2: "both workflows"}
        return few.get(whole, f"all {whole} workflows")
    return f"{count or 'none'} of {counted(whole, 'workflow')}"


def points(summary: Summary) -> str:
    """Return by how much a share may be below the best one without an SLO: `5 points`."""
    return f"{100 * summary.slo.success_margin:.3g} points"


def what_would_prove_it(summary: Summary) -> str:
    """Return how many repeats would prove what is not proven yet; empty if all is.

    Empty, too, where the provider changed: the rest of the tune would prove nothing.
    """
    settles = summary.recommendation.settles_with
    if settles is None or (summary.tune is not None and summary.tune.changed is not None):
        return ""
    it = "both" if settles.missing == "both" else "it"
    run, noun = ("run", "repeat") if summary.tune is None else ("tune", "block")
    if settles.max_repeats is None:
        return f"no practical number of {noun}s would prove {it}"
    repeats = counted(settles.max_repeats, noun)
    if settles.by_resuming:
        return f"going on with this {run} would probably prove {it} with at most {repeats} in all"
    if settles.at_least:
        return f"a new {run} needs at least {repeats} to prove {it}"
    return f"a new {run} of at most {repeats} would probably prove {it}"


def no_better_policy(summary: Summary) -> list[str]:
    """Return what else is proven of the recommended policy."""
    if summary.recommendation.state != "proven" or len(summary.cells) == 1:
        return []
    words = _words(summary)
    if (proof := tune_proof(summary)) is not None and not proof.is_complete:
        return []
    than = f"is {words.better}{words.for_whom} by more than {percent(summary.margin)}"
    return [f"no other policy that keeps as much {than} (proven)"]
