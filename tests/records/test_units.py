"""Every number in a record file has a declared unit, which costs nothing when a line is read."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from harness.analysis.model import Distribution, Figure, Lateness, Spread
from harness.records.schema import Attempt
from harness.records.units import Nanoseconds, units_of
from tests.docs.reference import RECORD_FILES

STRUCTS = {kind for kinds in RECORD_FILES.values() for kind in kinds}
OF_THE_FIELD = (Figure, Distribution, Lateness, Spread)
"""The structs whose numbers have the unit of the field that contains them."""
ENDS = {"_ns": "ns", "_usd": "USD", "_s": "real second"}
"""What the unit of a field says whose name ends so."""


def _types_in(hint: Any) -> set[Any]:
    return {hint}.union(*map(_types_in, get_args(hint)))


@pytest.mark.parametrize("kind", sorted(STRUCTS, key=str), ids=lambda kind: kind.__name__)
def test_each_number_has_a_unit_and_nothing_else_has_one(kind: type[msgspec.Struct]) -> None:
    units, hints = units_of(kind), get_type_hints(kind)
    numeric = {name for name in units if {int, float, *OF_THE_FIELD} & _types_in(hints[name])}
    assert {name for name, unit in units.items() if unit} == numeric


@pytest.mark.parametrize("kind", sorted(STRUCTS, key=str), ids=lambda kind: kind.__name__)
def test_a_name_that_ends_in_a_unit_has_that_unit(kind: type[msgspec.Struct]) -> None:
    for name, unit in units_of(kind).items():
        for end, words in ENDS.items():
            if unit and name.endswith(end):
                assert words in unit, f"{kind.__name__}.{name}"


def test_every_struct_in_a_record_is_documented() -> None:
    inside: set[Any] = set()
    for kind in STRUCTS:
        for hint in get_type_hints(kind).values():
            inside |= {one for one in _types_in(hint) if hasattr(one, "__struct_fields__")}
    assert inside <= STRUCTS


def test_a_unit_is_no_constraint_for_a_decoder() -> None:
    """A constraint would be checked in each line; msgspec does not even see a unit."""

    class Bare(msgspec.Struct):
        done: int | None

    class WithUnit(msgspec.Struct):
        done: Nanoseconds[int | None]

    infos = [msgspec.inspect.type_info(kind) for kind in (Bare, WithUnit)]
    bare, declared = (
        info.fields[0].type for info in infos if isinstance(info, msgspec.inspect.StructType)
    )
    assert isinstance(declared, msgspec.inspect.Metadata)
    assert declared.type == bare
    assert units_of(Attempt)["sent"] == "ns"
