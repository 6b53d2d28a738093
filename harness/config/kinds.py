"""Tables of kinds: the values that the `kind` key of a section can have.

A kind is an object with a name, the keys of its section, and the further members that its package
requires. Built-in kinds are listed in a tuple; kinds of other packages are found by entry points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Generic, Protocol, TypeVar

from pydantic_core import PydanticKnownError

from harness.config.config_base import Section
from harness.config.tables import SettingError, nearest


class Kind(Protocol):
    """The members of every kind, whether policy, endpoint or workflow."""

    @property
    def name(self) -> str:
        """The value of `kind` in the file."""

    @property
    def section(self) -> type[Section]:
        """The class of its section, which has the key `kind`."""


_K = TypeVar("_K", bound=Kind)


class KindTable(Generic[_K]):
    """Kinds for one section: those in `built_in`, then those of the entry-point group `group`."""

    def __init__(self, group: str, built_in: Iterable[_K]) -> None:
        self._group = group
        self._built_in = {kind.name: kind for kind in built_in}
        self._loaded: dict[str, _K] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all kinds, sorted, without importing any kind."""
        return tuple(sorted({*self._built_in, *(point.name for point in self._points())}))

    def get(self, name: str) -> _K:
        """Return the kind called `name`. Raises KeyError if there is none."""
        if name in self._built_in:
            return self._built_in[name]
        if name not in self._loaded:
            self._loaded[name] = self._points()[name].load()
        return self._loaded[name]

    def of(self, section: Section) -> _K:
        """Return the kind of `section`."""
        name: str = getattr(section, "kind")  # noqa: B009 - every kind's section has it
        return self.get(name)

    def validate(self, value: Any) -> Any:
        """Return the section for the table `value`; for use as a BeforeValidator.

        A section is returned unchanged.
        """
        if isinstance(value, Section):
            return value
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_type", {"class_name": "a table"})
        if "kind" not in value:
            raise SettingError("missing; add it", "kind")
        name = value["kind"]
        if name not in self.names():
            close = nearest(name, self.names()) if isinstance(name, str) else ""
            known = ", ".join(self.names())
            raise SettingError(f"unknown kind{close}; use one of: {known}", "kind", value=name)
        try:
            kind = self.get(name)
            if missing := ", ".join(sorted(kind.section.__abstractmethods__)):
                raise TypeError(f"{kind.section.__name__} does not define {missing}")
        except Exception as error:  # any error in a module of another package
            reason = f"{type(error).__name__}: {error}"
            raise SettingError(
                f"its package cannot be used ({reason}); repair or uninstall that package",
                "kind",
                value=name,
            ) from error
        return kind.section.model_validate(value)

    def _points(self) -> metadata.EntryPoints:
        return metadata.entry_points(group=self._group)
