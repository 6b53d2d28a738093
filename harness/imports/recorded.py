"""Recorded calls, whatever the format of the file that they come from.

Times are nanoseconds of any clock that all traces of a file share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class RecordedCall:
    """One call to a model.

    `start`, `end`: of the call; the start is when it was ready, if the record has that. Tokens are
    None where the record has none; `cached` is part of `input`, `reasoning` of `output`. `label`:
    a name of the call, the same in every run of a program. `groups`: the ids of the spans around
    it, without that of the trace, outermost first; `group_names`: their names. `ok`: it succeeded.
    `prompt`, `answer`: texts that show who read whose answer, empty if unknown; never written.
    """

    id: str
    start: int
    end: int
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    label: str = ""
    groups: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    ok: bool = True
    prompt: str = field(default="", repr=False)
    answer: str = field(default="", repr=False)


@dataclass(frozen=True)
class RecordedTrace:
    """The calls of one workflow, in the order of their starts.

    `arrival`: when it was due. `begin`: when its program began, which is later if it had to queue.
    """

    id: str
    arrival: int
    begin: int
    calls: tuple[RecordedCall, ...]


@dataclass(frozen=True)
class Recording:
    """All that was found in a file.

    `source`: the name of the format. `traces`: by arrival. `others`: further runs of the same
    programs, which show their structure but are no part of the workload. `left_out`: how often
    something was left out, by the reason. `has_times`: the calls have ends; without them, a trace
    has one call.
    """

    source: str
    traces: tuple[RecordedTrace, ...]
    others: tuple[RecordedTrace, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    has_times: bool = True


MOST_RECORDED_TOKENS = 10_000_000
"""The most tokens of a call, read or written: more are a mistake of whoever recorded it."""


def without_impossible(recording: Recording) -> Recording:
    """Return what is left without calls that cannot have been so. Raises UnreadableRecordError."""
    left = Counter(recording.left_out)

    def is_possible(call: RecordedCall) -> bool:
        counts = (call.input, call.output, call.cached, call.reasoning)
        if call.end < call.start:
            left["calls that end before they begin"] += 1
        elif not all(count is None or 0 <= count <= MOST_RECORDED_TOKENS for count in counts):
            left["calls with an impossible number of tokens"] += 1
        else:
            return True
        return False

    def possible(traces: tuple[RecordedTrace, ...]) -> tuple[RecordedTrace, ...]:
        kept = [replace(one, calls=tuple(filter(is_possible, one.calls))) for one in traces]
        return tuple(one for one in kept if one.calls)

    traces, others = possible(recording.traces), possible(recording.others)
    if not traces:
        raise UnreadableRecordError(
            "has no call with possible times and numbers of tokens; export it again"
        )
    return replace(recording, traces=traces, others=others, left_out=left)


class UnreadableRecordError(Exception):
    """The file cannot be read; the text says what is wrong and the way out, in one line."""
