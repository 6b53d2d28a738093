"""Compares a run with its golden run, field by field.

Everything here works on rows: a record as a flat mapping from path to value, such as
`workflows.phases[0].name`. Rows of a new run are given the names of the golden run (see
`renames`), so that a difference is a value that changed and never a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tests.golden import renames

Row = dict[str, Any]
Key = tuple[Any, ...]

KEY = ("cell", "repeat", "workflow", "execution", "phase", "branch", "call", "attempt")
"""Fields of the logical key, as the golden runs call them; a table has the first few of them."""

RELATIVE = 1e-9
"""How far floats may differ. The last digit of `exp` and `log` depends on the platform's libm, and
sums and intervals carry it on; a changed formula shows long before the ninth digit."""
ABSOLUTE = 1e-12
"""The same around zero, for differences and shares that are 0 but for rounding."""

ABSENT = "(absent)"
PRESENT = "(present)"
SHOWN = 20


class Difference(NamedTuple):
    """One field whose value is not the golden one."""

    record: str
    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.record}: {self.field}: old {self.old!r}, new {self.new!r}"


def flatten(value: Any, path: str) -> Row:
    """Return every leaf below `path`; an empty list or mapping is a leaf."""
    return dict(_leaves(value, path))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


@cache
def is_below(path: str, parents: frozenset[str]) -> bool:
    """Return whether `path`, whatever its indices, is one of `parents` or lies below one."""
    plain = _without_indices(path)
    return any(plain == parent or plain.startswith((f"{parent}.", f"{parent}["))
               for parent in parents)  # fmt: skip


def _without_indices(path: str) -> str:
    return re.sub(r"\[\d+\]", "[]", path)


@cache
def renamed(path: str, names: tuple[tuple[str, str], ...]) -> str:
    """Return `path` with the first prefix that `names` holds replaced; indices stay."""
    for prefix, new in names:
        if is_below(path, frozenset({prefix})):
            plain = new + _without_indices(path)[len(prefix) :]
            indices = re.findall(r"\[\d+\]", path)
            assert plain.count("[]") == len(indices), f"{prefix} -> {new}: other indices"
            return plain.replace("[]", "{}").format(*indices)
    return path


def in_old_names(
    row: Row,
    names: Mapping[str, str] = renames.RENAMES,
    values: Mapping[str, Mapping[str, str]] = renames.VALUES,
) -> Row:
    """Return a row of a new run as the golden run would have written it."""
    longest_first = sorted(_inverse(names).items(), key=lambda item: len(item[0]), reverse=True)
    old_names = tuple(longest_first)
    old_values = {path: _inverse(mapping) for path, mapping in values.items()}
    old = {}
    for path, value in row.items():
        name = renamed(path, old_names)
        mapping = old_values.get(_without_indices(name), {})
        old[name] = mapping.get(value, value) if isinstance(value, str) else value
    return old


def _inverse(mapping: Mapping[str, str]) -> dict[str, str]:
    inverse = {new: old for old, new in mapping.items()}
    assert len(inverse) == len(mapping), f"two old names have the same new one: {mapping}"
    return inverse


def key_of(row: Row, table: str) -> Key:
    """Return the logical key of a record's row."""
    paths = (f"{table}.{name}" for name in KEY)
    return tuple(row[path] for path in paths if path in row)


def in_order(rows: Iterable[Row], table: str) -> list[Row]:
    """Return rows in the order of their logical key; None comes first."""
    return sorted(
        rows, key=lambda row: [(part is not None, part or 0) for part in key_of(row, table)]
    )


def compare_table(
    table: str, old: Sequence[Row], new: Sequence[Row], added: frozenset[str] = renames.ADDED
) -> list[Difference]:
    """Return how the records of a table differ; each is paired with the one of the same key."""
    new_rows = {key_of(row, table): row for row in new}
    old_rows = {key_of(row, table): row for row in old}
    assert len(new_rows) == len(new), f"{table}: two records have the same key"
    found = []
    for row in in_order([*old, *(new_rows[key] for key in new_rows.keys() - old_rows)], table):
        key = key_of(row, table)
        name = f"{table} {'/'.join(map(str, key))}"
        if key not in new_rows or key not in old_rows:
            sides = ("a record", ABSENT) if key in old_rows else (ABSENT, "a record")
            found.append(Difference(name, "(whole record)", *sides))
        else:
            found += compare_rows(name, old_rows[key], new_rows[key], added)
    return found


def compare_rows(
    name: str, old: Row, new: Row, added: frozenset[str] = renames.ADDED
) -> list[Difference]:
    """Return the fields in which two rows differ."""
    paths = [*old, *(path for path in new if path not in old and not is_below(path, added))]
    return [
        Difference(name, path, old.get(path, ABSENT), new.get(path, ABSENT))
        for path in paths
        if not _same(old.get(path, ABSENT), new.get(path, ABSENT))
    ]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, float) or isinstance(new, float):
        numbers = isinstance(old, int | float) and isinstance(new, int | float)
        return numbers and math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(old) is type(new) and bool(old == new)


def report(found: Sequence[Difference]) -> str:
    """Return the first differences, a line each, and how many there are."""
    lines = [str(difference) for difference in found[:SHOWN]]
    return "\n".join([f"{len(found)} fields differ from the golden run:", *lines])
