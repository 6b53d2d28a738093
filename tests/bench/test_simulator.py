"""What the run tells its provider."""

from harness.bench.simulator import settings
from harness.commands.serve import profile_overrides
from harness.provider.profiles import load_profile


def test_nested_overrides_reach_the_provider_as_they_stand_in_the_scenario() -> None:
    override = {"ttft": {"median": "3s", "sigma": 0.1}, "concurrency_cap": 5, "itl_a": "20ms"}
    passed = profile_overrides(list(settings(override)))
    there = load_profile("deepseek-reasoner", passed)
    assert there == load_profile("deepseek-reasoner", override)
    assert there.as_dict()["ttft"]["median"] == 3.0
    assert there.concurrency_cap == 5
