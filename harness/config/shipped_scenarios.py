"""The shipped scenarios."""

from __future__ import annotations

import tomllib
from pathlib import Path

import harness
from harness.config.tables import nearest
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
        f"{name}: no such file and no shipped scenario{nearest(name, shipped)}; "
        f"the shipped ones are: {', '.join(shipped)}"
    )
