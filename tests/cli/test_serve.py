"""What `harness serve` says."""

from __future__ import annotations

import pytest

from harness.cli.main import main
from harness.simulator.profiles import shipped_profiles


def test_the_list_names_every_profile_within_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    named = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert named == [profile.name for profile in shipped_profiles()]
