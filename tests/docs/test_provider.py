"""What docs/provider.md says is what the code says."""

import re
import tomllib
from pathlib import Path

from harness.bench.scenario_file import parse_scenario
from harness.config.faults import KINDS, Fault
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.failures import FAILURES
from harness.simulator.profiles import Profile

DOCUMENT = (Path(__file__).parents[2] / "docs" / "provider.md").read_text()


def fault_table() -> str:
    rows = ["| fault | what the provider does | comes to | retry |", "|---|---|---|---|"]
    for kind in KINDS.values():
        only = "; streams only" if kind.streams_only else ""
        retry = "yes" if FAILURES[kind.outcome].retryable else "no"
        rows.append(f"| `{kind.name}` | {kind.does}{only} | `{kind.outcome}` | {retry} |")
    return "\n".join(rows)


def explained_in(heading: str) -> set[str]:
    """The keys in the first column of a section's tables."""
    section = DOCUMENT.split(f"{heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_the_table_of_faults_is_the_table_in_the_code() -> None:
    shown = re.search(r"<!-- faults: .*? -->\n(.*?)\n?<!-- end -->", DOCUMENT, re.DOTALL)
    assert shown is not None
    assert shown[1] == fault_table()


def test_every_key_of_a_fault_is_explained() -> None:
    assert set(Fault.model_fields) <= explained_in("## Faults")


def test_every_key_of_a_profile_is_explained_and_no_other() -> None:
    assert set(Profile.model_fields) == explained_in("## A profile")


def test_the_faults_that_are_shown_are_ones_that_a_scenario_takes() -> None:
    shown = next(
        block
        for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
        if "[[endpoint.faults]]" in block
    )
    text = f'name = "x"\n[workflow]\ntopics = ["tides"]\n{shown}'
    endpoint = parse_scenario(text, "provider.md").endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    assert endpoint.faults is not None
    assert len(endpoint.faults) == len(tomllib.loads(text)["endpoint"]["faults"]) == 3
