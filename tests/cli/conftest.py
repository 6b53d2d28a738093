"""What the tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.answering import KEY


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder of one's own, with a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN_KEY", KEY)
    return tmp_path
