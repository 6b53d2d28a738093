"""Installs a package of its own for a test, with entry points for kinds of the harness."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def installed(folder: Path, module: str, code: str, kinds: Mapping[str, str]) -> Iterator[None]:
    """Install `module` in `folder`; `kinds`: the text of each group of entry points."""
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{module}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{points}\n" for group, points in kinds.items())
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    sys.modules.pop(module, None)
