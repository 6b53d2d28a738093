"""What the run tells its provider."""

from harness.bench.scenario_file import parse_scenario
from harness.config.tables import parse_override
from harness.endpoints.simulated import SimulatedEndpoint, settings
from harness.simulator.profiles import load_profile
from tests.bench.examples import HEAD


def test_nested_overrides_reach_the_provider_as_they_stand_in_the_scenario() -> None:
    override = {"ttft": {"median": "3s", "sigma": 0.1}, "concurrency_cap": 5, "itl_a": "20ms"}
    passed = dict(map(parse_override, settings(override)))
    there = load_profile("deepseek-reasoner", passed)
    assert there == load_profile("deepseek-reasoner", override)
    assert there.as_dict()["ttft"]["median"] == 3.0
    assert there.concurrency_cap == 5


def test_tables_within_lists_reach_it_too() -> None:
    faults = (
        "[[endpoint.faults]]\nkind = 'unavailable'\nprobability = 0.25\nretry_after = '2s'\n"
        "[[endpoint.faults]]\nkind = 'stall'\noutage = { start = '1m', duration = '30s' }\n"
        "phases = ['research', 'synthesize']\n"
    )
    endpoint = parse_scenario(HEAD + faults, "file.toml").endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    there = load_profile("streams", dict(map(parse_override, settings(endpoint.overrides))))
    assert there.faults == endpoint.faults
    assert [fault.kind for fault in there.faults] == ["unavailable", "stall"]


def test_a_scenario_without_faults_leaves_those_of_the_profile() -> None:
    endpoint = parse_scenario(HEAD + "[endpoint]\noverride = { slots = 2 }\n", "x").endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    assert endpoint.overrides == {"slots": 2}
    none = endpoint.model_copy(update={"faults": ()})
    assert none.overrides == {"slots": 2, "faults": []}


def test_the_heading_shows_no_character_that_controls_the_terminal() -> None:
    heading = SimulatedEndpoint(profile="a\x1b[2J\0/b.toml").facts.heading
    assert heading.isprintable()
    assert "a\\x1b[2J\\x00/b.toml" in heading
