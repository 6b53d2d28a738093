"""Runs of simulated providers in virtual time, to be fitted."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.runner import Hooks
from harness.bench.scenario_file import parse_scenario
from harness.config.toml_text import toml_document, toml_value
from harness.endpoints.simulated import SimulatedEndpoint
from harness.simulator.profiles import load_profile
from harness.store.column_reader import read_columns
from harness.store.run_directory import Records

PLAIN: dict[str, Any] = {
    "name": "known", "description": "a provider whose settings are known", "source": "made up",
    "date": datetime.date(2026, 11, 27),
    "ttft": {"median": "500ms", "sigma": 0.3},
    "itl_a": "20ms",
    "reasoning_tokens": {"median": 120, "sigma": 0.5},
    "answer_tokens": {"median": 80, "sigma": 0.4},
}  # fmt: skip
_SCENARIO = """
name = "known"
seed = {seed}
[workflow]
topics = {topics}
sub_questions = 4
{workflow}
[endpoint]
kind = "simulated"
time = "virtual"
profile = {profile}
stream = {stream}
[load]
workflows = {workflows}
in_flight = {in_flight}
[timeouts]
first_token = "2h"
idle = "1h"
call = "3h"
[sweep]
mode = "async"
permits = {permits}
retry = ["patient"]
repeats = {repeats}
[retry.patient]
kind = "exponential"
attempts = 9
base = "1s"
cap = "20s"
"""


def profile_file(folder: Path, provider: dict[str, Any]) -> Path:
    """Write the profile of a provider that differs from `PLAIN` in some keys."""
    path = folder / "provider.toml"
    values = {**PLAIN, **provider}
    if "itl_points" in provider:
        del values["itl_a"]
    path.write_text(toml_document(values))
    return path


def write_run(
    folder: Path, provider: dict[str, Any], *, seed: int = 1, permits: tuple[int, ...] = (2, 16),
    workflows: int = 12, in_flight: int = 6, repeats: int = 1, workflow: str = "",
    stream: bool = True, topics: int = 12, profile: Path | None = None,
) -> Path:  # fmt: skip
    """Run workflows of six calls at a provider, and leave the records in `folder`.

    `profile`: a file that is used instead of `PLAIN` with the keys of `provider`.
    """
    text = _SCENARIO.format(
        seed=seed, workflows=workflows, in_flight=in_flight, repeats=repeats, workflow=workflow,
        permits=list(permits), profile=toml_value(str(profile or profile_file(folder, provider))),
        stream=str(stream).lower(), topics=[f"topic number {n} of the list" for n in range(topics)],
    )  # fmt: skip
    read = parse_scenario(text, "known")
    assert isinstance(read.endpoint, SimulatedEndpoint)
    plain = load_profile(read.endpoint.profile, read.endpoint.overrides).as_dict()
    profiles = {cell.id: plain for cell in expand(read)}
    runner.run(read, profiles, {}, folder, Hooks(*[_nothing] * len(Hooks._fields)))
    return folder


def play(provider: dict[str, Any], **settings: Any) -> Records:
    """Return the records of a run at a provider."""
    with tempfile.TemporaryDirectory() as folder:
        return read_columns(write_run(Path(folder), provider, **settings))


def _nothing(*_: object) -> None:
    """Do nothing."""
