"""Records as small as they can be in memory, for what looks at millions of them.

The same records, read without what no statistic needs (the provider's ids, and the tokens of calls,
which their attempts have too), and with one string for all that say the same: most of a record's
memory is its texts.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from harness.failures import FAILURES, OK
from harness.records import PHASES, Attempt, Call, Run, Tokens

T = TypeVar("T", Attempt, Call)

_IDS = ("request_id", "response_id", "response_model")
_FINISHES = (
    "stop", "length", "content_filter", "tool_calls", "insufficient_system_resource",
)  # fmt: skip


def lean(kind: type[T], run: Run) -> type[T]:
    """Return a subclass of `kind` that reads the same lines into less memory.

    A line with a word that it does not know (an outcome of another version) is refused by it with
    msgspec.ValidationError, and read by `kind`.
    """
    fields: list[Any] = [
        ("cell", _one_of(info.id for info in run.cells)),
        ("phase", _one_of(PHASES)),
        ("outcome", _one_of((OK, *FAILURES))),
    ]
    if issubclass(kind, Attempt):
        fields.append(("finish_reason", _one_of(_FINISHES) | None))
        for name in _IDS:
            # A name that no line has: what stands under the real one is passed over.
            fields.append((name, str | None, msgspec.field(default=None, name=f"-{name}")))
    else:  # what the attempts of the call say already
        fields += [
            (name, Tokens | None, msgspec.field(default=None, name=f"-{name}"))
            for name in ("tokens", "wasted_tokens")
        ]
    made: type[T] = msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True, gc=False
    )  # type: ignore[assignment]
    return made


def _one_of(words: Any) -> Any:
    return Literal[tuple(words)]
