"""The shipped scenarios."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path

import harness
from harness.config.validation_messages import one_line
from harness.records.errors import InputError

_PACKAGE = Path(harness.__file__).parent


def folder() -> Path:
    """Return the folder of the shipped scenarios: in the package, or next to it in a checkout."""
    packaged = _PACKAGE / "scenarios"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "scenarios"


def described() -> dict[str, str]:
    """Return the description of each shipped scenario by its name, sorted by name."""
    return {
        file.stem: tomllib.loads(file.read_text(encoding="utf-8")).get("description", "")
        for file in sorted(folder().glob("*.toml"))
    }


def find(name: str) -> Path:
    """Return the path of a scenario file. `name`: a path, or the name of a shipped scenario.

    Raises InputError if there is none.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read ({error.strerror}); give the path of a scenario (TOML)"
        ) from None
    shipped = {file.stem: file for file in sorted(folder().glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    raise InputError(
        one_line(
            f"{name}: no such file and no shipped scenario{_nearest_names(name, shipped)}; "
            "`harness scenarios` lists the shipped ones"
        )
    )


def _nearest_names(name: str, shipped: Iterable[str]) -> str:
    """Return the names that resemble `name` or contain it, as a question; empty if none do."""
    names = sorted(shipped)
    wanted = Path(name).stem.lower()
    close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    close += [one for one in names if len(wanted) > 2 and wanted in one and one not in close]
    return f" (did you mean {' or '.join(map(repr, close[:3]))}?)" if close else ""
