"""Types that read the lines of records in less time and memory.

They leave out fields that no statistic needs (the provider's ids, and the tokens of calls, which
their attempts have too), share equal words, and do not decode histograms or pack them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from harness.records.failures import FAILURES, OK
from harness.records.histogram import Packed
from harness.records.provider_log import Served
from harness.records.schema import Attempt, Call, Run, Tokens

ABSENT = -(2**31)
"""Stands for None in a column of integers."""

_IDS = ("request_id", "response_id")
_FINISHES = (
    "stop", "length", "content_filter", "tool_calls", "insufficient_system_resource",
)  # fmt: skip
_MAY_BE_NONE = (
    "branch", "sent", "headers", "first_reasoning", "first_answer", "last_token", "status",
    "retry_after",
)  # fmt: skip


def line_type(kind: type[Attempt | Call], run: Run, phases: Collection[str]) -> type[Any]:
    """Return a type that reads the lines of `kind` for columns: see `columns`.

    `phases`: the names of the phases that occur. An absent number is `ABSENT`, and the gaps stay
    JSON. The type refuses a line with an unknown word, such as an outcome of another version, with
    msgspec.ValidationError; `kind` reads such a line.
    """
    fields: list[Any] = [
        ("cell", _one_of(info.id for info in run.cells)),
        ("outcome", _one_of((OK, *FAILURES))),
        *((name, int | None, ABSENT) for name in _MAY_BE_NONE if name in kind.__struct_fields__),
    ]
    if phases:
        fields.append(("phase", _one_of(phases)))
    if issubclass(kind, Attempt):
        counts = msgspec.defstruct(
            "Tokens", [(name, int | None, ABSENT) for name in Tokens.__struct_fields__], gc=False
        )
        fields.append(("tokens", counts, msgspec.field(default_factory=counts)))
        fields.append(("finish_reason", _one_of(_FINISHES) | None, None))
        fields.append(("gaps", msgspec.Raw, msgspec.Raw(b"{}")))
        fields += [_passed_over(name, str) for name in _IDS]
    else:
        fields += [_passed_over(name, Tokens) for name in ("tokens", "wasted_tokens")]
    return msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True, gc=False
    )


def served_type(run: Run) -> type[Served]:
    """Return a type that reads the same lines as `Served` into less memory; see `line_type`."""

    def pack(record: Served) -> None:
        for name in ("gaps", "lateness"):
            msgspec.structs.force_setattr(record, name, Packed(getattr(record, name)))

    made: type[Served] = msgspec.defstruct(
        "Served", [("cell", _one_of(info.id for info in run.cells) | None)], bases=(Served,),
        frozen=True, kw_only=True, gc=False, namespace={"__post_init__": pack},
    )  # type: ignore[assignment]  # fmt: skip
    return made


def _passed_over(name: str, kind: type) -> tuple[str, Any, Any]:
    """Return a field with a name that no line has, so that the real field is not read."""
    return name, kind | None, msgspec.field(default=None, name=f"-{name}")


def _one_of(words: Any) -> Any:
    return Literal[tuple(words)]
