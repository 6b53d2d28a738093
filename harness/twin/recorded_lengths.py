"""The lengths of the responses of a run, to be given again in a prediction.

A predicted workflow gets the lengths of one recorded workflow, so lengths depend on each other as
they did. It is the workflow with the same number in the same repeat, or else one about the same
topic. Settings can have measured different lengths for it. A setting that is compared with its own
measurement gets its own; otherwise all predicted settings get the same, which come from one
measured setting after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.simulator.virtual.provider import GivenLengths
from harness.twin.length_fit import cut_by_limit, shown_lengths
from harness.twin.observations import Observations

_Lengths = dict[tuple[str, int | None, int], tuple[int, int]]
"""The tokens of reasoning and answer of the calls of one workflow: by phase, branch and call."""


@dataclass(frozen=True)
class RecordedLengths:
    """The lengths of each workflow of a run.

    `workflows`: by repeat and workflow number, then by cell. `by_topic`: their keys.
    """

    workflows: Mapping[tuple[int, int], Mapping[str, _Lengths]]
    by_topic: Mapping[str, Sequence[tuple[int, int]]]

    def of_trial(self, cell: str, repeat: int, topics: Sequence[str]) -> GivenLengths:
        """Return the lengths that a measured setting had, for a trial of it.

        `topics`: of the workflows, in order. Repeats beyond those of the run begin again with its
        first. A call without a length in this setting gets that of another one, if there is any.
        """
        return self._given(cell, repeat, topics)

    def of_work(self, like: Collection[str], repeat: int, topics: Sequence[str]) -> GivenLengths:
        """Return the lengths for a trial of any setting: the same for all with the same work.

        `like`: the measured settings with this work. Those of them are taken in turn that have a
        length for the most calls of the workflow; if none has any, other settings are.
        """
        return self._given("", repeat, topics, like)

    def _given(
        self, own: str, repeat: int, topics: Sequence[str], like: Collection[str] = ()
    ) -> GivenLengths:
        repeats = 1 + max((at for at, _ in self.workflows), default=0)
        given: dict[tuple[int, str, int | None, int], tuple[int, int]] = {}
        for number, topic in enumerate(topics):
            known = self.by_topic.get(topic)
            if not known:
                continue
            source = (repeat % repeats, number)
            if source not in known:
                source = known[(repeat + number // len(known)) % len(known)]
            every = self.workflows[source]
            cells = {name: calls for name, calls in every.items() if name in like} or every
            most = max(map(len, cells.values()))
            whole = sorted(name for name, calls in cells.items() if len(calls) == most)
            first = own if own in cells else whole[(repeat // repeats + number) % len(whole)]
            for name in [*(name for name in sorted(cells) if name != first), first]:
                for call, lengths in cells[name].items():
                    given[(number, *call)] = lengths
        return given


def recorded_lengths(seen: Observations) -> RecordedLengths:
    """Return the lengths of the complete responses of a run.

    A response that max_tokens cut counts, too.
    """
    reasoning, answer, _, _ = shown_lengths(seen)
    rows = np.flatnonzero((seen.ok | cut_by_limit(seen)) & (reasoning + answer > 0))
    workflows: dict[tuple[int, int], dict[str, _Lengths]] = {}
    by_topic: dict[str, dict[tuple[int, int], None]] = {}
    columns = (
        seen.cell, seen.repeat, seen.workflow, seen.phase, seen.branch, seen.call, seen.topic,
        np.rint(reasoning).astype(np.int64), np.rint(answer).astype(np.int64),
    )  # fmt: skip
    for row in zip(*(column[rows].tolist() for column in columns), strict=True):
        cell, repeat, workflow, phase, branch, call, topic, thought, said = row
        calls = workflows.setdefault((repeat, workflow), {}).setdefault(seen.cells[cell], {})
        calls[seen.phases[phase], None if branch < 0 else branch, call] = (thought, said)
        by_topic.setdefault(seen.topics[topic] if topic >= 0 else "", {})[repeat, workflow] = None
    return RecordedLengths(workflows, {topic: list(keys) for topic, keys in by_topic.items()})
