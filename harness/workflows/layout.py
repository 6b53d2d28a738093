"""The calls of a workflow as a tree of sequences and fan-outs, for estimates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias, assert_never

from harness.engine.effects import Message

CHARACTERS_A_TOKEN = 4
_TOKENS_A_MESSAGE = 4


class PlannedCall(NamedTuple):
    """One call: its phase, and the maximum of tokens that it reads.

    `repair`: the call is made only if an answer cannot be used.
    """

    phase: str
    read: int
    repair: bool = False


class InSequence(NamedTuple):
    """Parts that run one after another."""

    parts: tuple[Layout, ...]


class InParallel(NamedTuple):
    """Parts that run at the same time: the branches of a fan-out."""

    parts: tuple[Layout, ...]


Layout: TypeAlias = PlannedCall | InSequence | InParallel


def calls_of(layout: Layout) -> Iterator[PlannedCall]:
    """Yield every call, repairs included."""
    return (node for node in _nodes(layout) if isinstance(node, PlannedCall))


def _nodes(layout: Layout) -> Iterator[Layout]:
    yield layout
    for part in () if isinstance(layout, PlannedCall) else layout.parts:
        yield from _nodes(part)


def regular_calls(layout: Layout) -> int:
    """Return the number of calls if nothing needs a repair."""
    return sum(not call.repair for call in calls_of(layout))


def branches_of(layout: Layout) -> int:
    """Return the number of branches of all fan-outs; one that forks again is not counted."""
    return _folded(layout, 0, sum, lambda parts: sum(part or 1 for part in parts))


def widest(layout: Layout) -> int:
    """Return the maximum number of calls in flight."""
    return _folded(layout, 1, lambda parts: max(parts, default=0), sum)


_Combine: TypeAlias = Callable[[list[int]], int]


def _folded(layout: Layout, call: int, sequence: _Combine, parallel: _Combine) -> int:
    """Combine the values of the parts, where a call has the value `call`."""
    match layout:
        case PlannedCall():
            return call
        case InSequence(parts):
            return sequence([_folded(part, call, sequence, parallel) for part in parts])
        case InParallel(parts):
            return parallel([_folded(part, call, sequence, parallel) for part in parts])
        case _:
            assert_never(layout)


def rounds(layout: Layout, permits: int) -> int:
    """Return how many calls follow one another if at most `permits` calls are in flight."""
    match layout:
        case PlannedCall():
            return 0 if layout.repair else 1
        case InSequence(parts):
            return sum(rounds(part, permits) for part in parts)
        case InParallel(parts):
            longest = max((rounds(part, permits) for part in parts), default=0)
            return max(longest, -(-regular_calls(layout) // permits))
        case _:
            assert_never(layout)


def main_phase(layout: Layout) -> str:
    """Return the phase with the most calls; among equals, one in a fan-out."""
    phases = Counter(call.phase for call in calls_of(layout) if not call.repair)
    fan_outs = (node for node in _nodes(layout) if isinstance(node, InParallel))
    inside = {call.phase for fan_out in fan_outs for call in calls_of(fan_out)}
    return max(phases, key=lambda phase: (phases[phase], phase in inside))


def tokens_of(messages: Iterable[Message]) -> int:
    """Return the approximate number of tokens of a prompt: one for every four characters."""
    return sum(
        -(-len(message.reasoning + message.content) // CHARACTERS_A_TOKEN) + _TOKENS_A_MESSAGE
        for message in messages
    )
