"""Tables of kinds: the values that the `kind` key of a section can have."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_core import PydanticKnownError

from harness.config.config_base import Section
from harness.config.tables import SettingError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_K = TypeVar("_K")


class KindTable(Generic[_K]):
    """The kinds of one section, by name; each is imported when it is first used.

    `built_in`: the place of each kind, as `module:object`. Other packages add kinds in the
    entry-point group `group`, in the same form. `section_of`: returns the class of a kind's
    section, which has the key `kind`. `way_out`: what a message says about a key that only other
    built-in kinds have.
    """

    def __init__(
        self,
        group: str,
        built_in: Mapping[str, str],
        section_of: Callable[[_K], type[Section]],
        way_out: str | None = None,
    ) -> None:
        self._group = group
        self._built_in = built_in
        self._section_of = section_of
        self._way_out = way_out
        self._loaded: dict[str, _K] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all kinds, sorted, without importing any kind."""
        return tuple(sorted({*self._built_in, *self._others()}))

    def get(self, name: str) -> _K:
        """Return the kind called `name`. Raises KeyError if there is none."""
        if name not in self._loaded:
            place = self._built_in.get(name)
            self._loaded[name] = (
                pkgutil.resolve_name(place) if place else self._others()[name].load()
            )
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
        is_built_in = isinstance(name, str) and name in self._built_in
        if not is_built_in and name not in self.names():
            raise SettingError(unknown("kind", name, self.names()), "kind", value=name)
        try:
            section = self._section_of(self.get(name))
            if missing := ", ".join(sorted(section.__abstractmethods__)):
                raise TypeError(f"{section.__name__} does not define {missing}")
        except Exception as error:  # any error in a module of another package
            reason = f"{type(error).__name__}: {error}"
            raise SettingError(
                f"its package cannot be used ({reason}); repair or uninstall that package",
                "kind",
                value=name,
            ) from error
        self._check_keys(section, name, value)
        return section.model_validate(value)

    def sections(self) -> dict[str, type[Section]]:
        """Return the section of each kind whose package can be used, by the name of the kind."""
        found = {}
        for name in self.names():
            try:
                found[name] = self._section_of(self.get(name))
            except Exception:  # noqa: S112 - any error in a module of another package
                continue
        return found

    def _check_keys(self, section: type[Section], name: str, value: Mapping[str, Any]) -> None:
        """Raise SettingError for a key that only other built-in kinds have."""
        if self._way_out is None:
            return
        for key in value:
            if key not in section.model_fields and (others := self._kinds_with(key)):
                problem = f"is no key of kind {name!r}, but of {others}; {self._way_out}"
                raise SettingError(problem, key)

    def _kinds_with(self, key: str) -> str:
        kinds = [
            repr(kind)
            for kind in self._built_in
            if key in self._section_of(self.get(kind)).model_fields
        ]
        return " and ".join(kinds)

    def _others(self) -> dict[str, EntryPoint]:
        """Return the kinds of other packages. Searching all installed packages is slow."""
        from importlib import metadata

        return {point.name: point for point in metadata.entry_points(group=self._group)}
