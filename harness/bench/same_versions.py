"""Says what this process has in common with another that makes the same records.

Trials in virtual time have the same bytes wherever they are played if code, Python and packages
are the same, and the mathematical functions of the C library, which round in the last digit.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import harness

_FOR_BYTES = ("msgspec", "numpy", "pydantic", "scipy")
"""Packages that draw, compute or encode what is recorded."""


@cache
def version_facts() -> Mapping[str, str]:
    """Return the versions of this process by name.

    The one of the harness includes a hash of its files.
    """
    return {
        "harness": f"{harness.__version__} ({_hash_of_code()})",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: metadata.version(name) for name in ("distributed", *_FOR_BYTES)},
        "machine": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()) or "unknown",
    }


def first_difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """Return in words the first version that differs from ours; None if all are the same."""
    for name, version in ours.items():
        other = theirs.get(name)
        if other != version:
            return f"has {name} {other or 'of no version'}, and this process {version}"
    return None


def _hash_of_code() -> str:
    package = Path(harness.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]
