"""The settings of cells: which ones differ, and how views name them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.analysis.model import Cell
from harness.records.schema import CellInfo
from harness.records.settings import LONGEST_VALUE, split_key, value_slugs, value_text

if TYPE_CHECKING:
    from harness.analysis.compare import CellChanges

BUILT_IN = ("mode", "permits", "retry", "permit_scope")
"""The settings that every cell has, in the order in which they are shown."""
_PROGRAM, _COMMAND = "program", "command"
"""Keys of `[workflow]`: a function of the user, and a process."""

CellSettings: TypeAlias = "CellInfo | Cell | CellChanges"
"""A cell of the records, the summary or a comparison: each has the settings of a cell."""


def runs_user_code(scenario: Mapping[str, Any]) -> bool:
    """Return whether code of the user makes the requests: a function or a process."""
    return _PROGRAM in scenario["workflow"] or runs_command(scenario)


def runs_command(scenario: Mapping[str, Any]) -> bool:
    """Return whether each workflow is a process of a command."""
    return _COMMAND in scenario["workflow"]


def settings_of(cell: CellSettings) -> dict[str, Any]:
    """Return every setting of a cell by its name; permits that adapt are the name of the limit."""
    built_in = {name: getattr(cell, name) for name in BUILT_IN}
    return {**built_in, "permits": permits_setting(cell), **cell.settings}


def permits_setting(cell: CellSettings) -> int | str:
    """Return the number of permits of a cell, or the name of its limit that adapts."""
    return cell.limiter or cell.permits


def with_permits(cell: CellSettings) -> str:
    """Return `1 permit`, `8 permits`, or `the limit elastic`."""
    if cell.limiter:
        return f"the limit {cell.limiter}"
    return f"{cell.permits} permit{'s'[: cell.permits > 1]}"


def identity(cell: CellSettings, but: Iterable[str] = ()) -> str:
    """Return the settings of a cell, except those in `but`, as a key to compare and group by."""
    left_out = set(but)
    kept = {name: value for name, value in settings_of(cell).items() if name not in left_out}
    return json.dumps(kept, sort_keys=True)


def policy_of(cell: CellSettings) -> str:
    """Return a key that is the same for cells that differ only in mode and permits."""
    return identity(cell, ("mode", "permits"))


def varying(cells: Iterable[CellSettings]) -> list[str]:
    """Return the names of the settings in which the cells differ."""
    every = [settings_of(cell) for cell in cells]
    names = dict.fromkeys(name for settings in every for name in settings)
    return [
        name
        for name in names
        if len({json.dumps(settings.get(name), sort_keys=True) for settings in every}) > 1
    ]


class SweptKey:
    """One swept key beyond the built-in ones: its short name and the labels of its values."""

    def __init__(self, key: str, name: str, values: Sequence[Any]) -> None:
        self.key = key
        self.name = name
        self.values = values
        texts = [value_text(value) for value in values]
        slugs = value_slugs(key, values)
        self._labels = {
            text: text if len(text) <= LONGEST_VALUE and text.isprintable() else slug
            for text, slug in zip(texts, slugs, strict=True)
        }

    def label(self, cell: CellSettings) -> str:
        """Return the value of a cell, or a numbered name for a long value.

        `-` for a cell without the setting, because its retry policy does not have it.
        """
        if self.key not in cell.settings:
            return "-"
        return self._labels[value_text(cell.settings[self.key])]

    def phrase(self, cell: CellSettings) -> str:
        """Return name and value, `sub_questions 8`, or the numbered name, `base-url-2`."""
        label = self.label(cell)
        is_number = label in self._labels.values() and label not in self._labels
        return label if is_number else f"{self.name} {label}"

    def brief(self, cell: CellSettings) -> str:
        """Return the value alone if it is text, else the phrase."""
        is_text = isinstance(cell.settings.get(self.key), str)
        return self.label(cell) if is_text else self.phrase(cell)

    def legend(self) -> list[str]:
        """Return `base-url-2 = https://...` for each value that is numbered."""
        return [f"{label} = {text}" for text, label in self._labels.items() if label != text]


def swept_keys(cells: Iterable[CellSettings]) -> list[SweptKey]:
    """Return the swept keys of these cells beyond the built-in ones, in order."""
    values: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for key, value in cell.settings.items():
            values.setdefault(key, {}).setdefault(value_text(value), value)
    names = _short_names(list(values))
    return [SweptKey(key, names[key], list(found.values())) for key, found in values.items()]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest end of each dotted key that is unique among keys and built-in names."""
    parts = {key: split_key(key) for key in keys}
    names = {}
    for key, mine in parts.items():
        others = [other for name, other in parts.items() if name != key]
        others += [[name] for name in BUILT_IN]
        counts = range(1, len(mine) + 1)
        free = (n for n in counts if all(other[-n:] != mine[-n:] for other in others))
        names[key] = ".".join(mine[-next(free, len(mine)) :])
    return names
