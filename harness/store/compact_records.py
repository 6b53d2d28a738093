"""Compact records, for reading millions of them into memory.

They omit fields that no statistic needs (the provider's ids, and the tokens of calls, which their
attempts have too), share equal strings and pack histograms. Strings and histograms take most of the
memory of a record.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeVar

import msgspec

from harness.records.failures import FAILURES, OK
from harness.records.histogram import Packed
from harness.records.provider_log import Served
from harness.records.schema import Attempt, Call, Run, Tokens

_T = TypeVar("_T", Attempt, Call, Served)

_HISTOGRAMS = ("gaps", "lateness")
_IDS = ("request_id", "response_id", "response_model")
_FINISHES = (
    "stop", "length", "content_filter", "tool_calls", "insufficient_system_resource",
)  # fmt: skip


def lean(kind: type[_T], run: Run, phases: Collection[str] = ()) -> type[_T]:
    """Return a subclass of `kind` that reads the same lines into less memory.

    `phases`: the names of the phases that occur. The subclass refuses a line with an unknown word,
    such as an outcome of another version, with msgspec.ValidationError; `kind` reads such a line.
    """
    fields: list[Any] = [("cell", _one_of(info.id for info in run.cells))]
    if issubclass(kind, Served):
        fields[0] = ("cell", fields[0][1] | None)
    else:
        fields.append(("outcome", _one_of((OK, *FAILURES))))
        if phases:
            fields.append(("phase", _one_of(phases)))
    if issubclass(kind, Attempt):
        fields.append(("finish_reason", _one_of(_FINISHES) | None, None))
        fields += [_passed_over(name, str) for name in _IDS]
    elif issubclass(kind, Call):  # the attempts of the call have them too
        fields += [_passed_over(name, Tokens) for name in ("tokens", "wasted_tokens")]
    histograms = [name for name in _HISTOGRAMS if name in kind.__struct_fields__]

    def pack(record: _T) -> None:
        for name in histograms:
            msgspec.structs.force_setattr(record, name, Packed(getattr(record, name)))

    made: type[_T] = msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True, gc=False,
        namespace={"__post_init__": pack} if histograms else {},
    )  # type: ignore[assignment]  # fmt: skip
    return made


def _passed_over(name: str, kind: type) -> tuple[str, Any, Any]:
    """Return a field with a name that no line has, so that the real field is not read."""
    return name, kind | None, msgspec.field(default=None, name=f"-{name}")


def _one_of(words: Any) -> Any:
    return Literal[tuple(words)]
