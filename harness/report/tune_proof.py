"""What stands behind the answer of a tune: what trials prove, and what was ruled out without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.analysis.model import Summary, TunedSetting
from harness.analysis.tuned import bound_in_words, share_in_words
from harness.report.wording import counted, proof_text


class TuneProof(NamedTuple):
    """The settings of a proven tune besides the recommended one, by why they are not recommended.

    `compared`: trials prove that they are not better by more than the margin. `after_trials`: ruled
    out after trials that are no proof; `apart`: of these, those that have no block in common with
    the recommended one, so that a twin of the provider compares them. `slower` and `failing`: ruled
    out by a twin of the provider, without a trial. Those that trials excluded, and those that do
    the same as another one, are not counted.
    """

    compared: int
    after_trials: int
    apart: int
    slower: Sequence[TunedSetting]
    failing: Sequence[TunedSetting]

    @property
    def by_twin(self) -> int:
        """How many settings were ruled out without a trial."""
        return len(self.slower) + len(self.failing)

    @property
    def is_complete(self) -> bool:
        """Whether trials prove the lead over each setting that may meet the SLO."""
        return not self.after_trials and not self.by_twin


def tune_proof(summary: Summary) -> TuneProof | None:
    """Return what is behind the recommendation of a tune; None for other runs and if not proven."""
    advice = summary.recommendation
    if summary.tune is None or advice.cell is None:
        return None
    broken = {cell.id for cell in summary.cells if cell.slo == "broken"}
    others = [one for one in summary.tune.settings if one.info.id != advice.cell]
    tried = [one for one in others if one.trials and one.info.id not in broken]
    untried = [one for one in others if not one.trials]
    rivals = {rival.cell for rival in advice.rivals}
    guessed = [one for one in tried if one.ruled_out in ("slower", "slo")]
    return TuneProof(
        compared=sum(one.ruled_out in (None, "dropped") and one.info.id in rivals for one in tried),
        after_trials=len(guessed),
        apart=sum(one.against is None for one in guessed),
        slower=[one for one in untried if one.ruled_out == "slower"],
        failing=[one for one in untried if one.ruled_out == "slo"],
    )


def proven_text(summary: Summary) -> str:
    """Return a sentence about what is proven of the recommendation."""
    proof = tune_proof(summary)
    if proof is None or proof.is_complete:
        return proof_text(summary.recommendation)
    if not proof.compared:
        return "Its success rate is proven by trials; its lead is not."
    over = counted(proof.compared, "setting")
    return f"Its success rate, and its lead over {over}, are proven by trials."


def ruled_out_text(summary: Summary) -> str:
    """Return which settings a proven tune ruled out without a proof, in a sentence.

    Empty where trials prove all of it.
    """
    proof = tune_proof(summary)
    if proof is None or proof.is_complete:
        return ""
    if not proof.by_twin:
        few = counted(proof.after_trials, "setting")
        was = "was" if proof.after_trials == 1 else "were"
        if proof.apart == proof.after_trials:
            their = "its trials are" if proof.apart == 1 else "their trials are"
            return (
                f"A twin of the provider ruled out {few}: {their} in other blocks, with other work."
            )
        return f"{few} {was} ruled out after a few trials, too few for a proof."
    details = "; ".join(_by_how_much(proof, summary))
    said = f"A twin of the provider ruled out {counted(proof.by_twin, 'setting')} without a trial"
    after = f" and {proof.after_trials} after a few trials" if proof.after_trials else ""
    return f"{said} ({details}){after}."


def _by_how_much(proof: TuneProof, summary: Summary) -> Iterator[str]:
    """Yield by how much the closest setting of each kind is worse."""
    if proof.slower:
        bound = min(one.bound or 1.0 for one in proof.slower)
        are = _who(len(proof.slower), proof, "is", "are")
        yield f"{are} {bound_in_words(bound, summary.recommendation.objective)}"
    if proof.failing:
        bound = max(one.bound or 0.0 for one in proof.failing)
        keep = _who(len(proof.failing), proof, "keeps", "keep")
        yield f"{keep} {share_in_words(bound, summary.slo.success_rate)} of workflows"


def _who(count: int, proof: TuneProof, one: str, many: str) -> str:
    """Return `it is`, `all are`, `1 is` or `3 are`."""
    if proof.by_twin == 1:
        return f"it {one}"
    if count == proof.by_twin:
        return f"all {many}"
    return f"{count} {one if count == 1 else many}"
