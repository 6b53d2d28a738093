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


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("slots=0", "--set slots = 0: must be at least 1"),
        ("slots.x=1", "--set slots: is a value, not a table; remove what follows it"),
        ("slot=1", "--set slot: unknown key (did you mean 'slots'?); known here: "),
        ("slots", "--set slots: must have the form KEY=VALUE"),
    ],
)
def test_a_mistake_in_a_setting_names_the_option(
    setting: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "deepseek-reasoner", "--set", "slots=9", "--set", setting]) == 2
    assert capsys.readouterr().err.startswith(f"harness: {line}")


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("override.slots=0", "endpoint.override.slots = 0: must be at least 1"),
        ("override.ttft.median='x'", "endpoint.override.ttft.median = 'x': must be a duration"),
        ("profile=streems", "profile streems: no such profile (did you mean 'streams'?)"),
    ],
)
def test_a_mistake_in_an_override_names_the_key_of_the_scenario(
    setting: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "quickstart", "--dry-run", "--set", f"endpoint.{setting}"]) == 2
    assert capsys.readouterr().err.startswith(f"harness: quickstart: {line}")
