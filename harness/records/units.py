"""The units of the numbers in records and in the summary, as part of the type of a field.

`Nanoseconds[int | None]` is `int | None` for type checkers, encoders and decoders. docs/records.md
shows the unit. A field whose type is `Figure` has the unit of the numbers in it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

T = TypeVar("T")

UNIT = "unit"
"""The key of the unit in the extra data of `msgspec.Meta`."""


def _unit(unit: str) -> msgspec.Meta:
    return msgspec.Meta(extra={UNIT: unit})


Nanoseconds = Annotated[T, _unit("ns")]
NanosecondBuckets = Annotated[T, _unit("ns, by bucket")]
"""A histogram: the names of the buckets have this unit, the values are counts."""
RealSeconds = Annotated[T, _unit("real seconds")]
ProcessorSeconds = Annotated[T, _unit("real seconds of processor time")]
RealSecondsPerToken = Annotated[T, _unit("real seconds per output token")]
PerRealSecond = Annotated[T, _unit("per real second")]
TokensPerRealSecond = Annotated[T, _unit("tokens per real second")]
TimeScale = Annotated[T, _unit("real seconds in a scenario second")]
CountUnit = Annotated[T, _unit("count")]
TokenCount = Annotated[T, _unit("tokens")]
Index = Annotated[T, _unit("index, from 0")]
Ordinal = Annotated[T, _unit("ordinal, from 1")]
Rank = Annotated[T, _unit("rank")]
ShareUnit = Annotated[T, _unit("share, 0 to 1")]
Ratio = Annotated[T, _unit("ratio")]
Probability = Annotated[T, _unit("probability, 0 to 1")]
UsdUnit = Annotated[T, _unit("USD")]
NanoUsd = Annotated[T, _unit("10^-9 USD")]
HttpStatus = Annotated[T, _unit("HTTP status code")]
ExitStatus = Annotated[T, _unit("exit code of a process")]
SchemaVersion = Annotated[T, _unit("version")]
Seed = Annotated[T, _unit("seed")]
OfField = Annotated[T, _unit("that of the field")]
"""The unit depends on the field that has this struct as its type."""


def units_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the unit of each field of a struct; empty for a field without one."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: _unit_in(hints[name]) for name in kind.__struct_fields__}


def _unit_in(hint: Any) -> str:
    for one in getattr(hint, "__metadata__", ()):
        if isinstance(one, msgspec.Meta) and one.extra:
            return str(one.extra[UNIT])
    return ""
