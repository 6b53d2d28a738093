"""What a check looks at, and what it finds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from harness.analysis.model import Summary
from harness.bench.model_list import ModelList
from harness.bench.scenario import Scenario
from harness.engine.effects import Reply

Level = Literal["ok", "warning", "failure", "skipped"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check.

    `level`: `skipped` if the check does not apply, or needs what was not given. `reason`: what was
    found. `fix`: the way out; empty for `ok`.
    """

    check: str
    level: Level
    reason: str
    fix: str = ""


class MeasuredRun(NamedTuple):
    """A run of the scenario: its directory and its summary."""

    directory: Path
    summary: Summary


class Probed(NamedTuple):
    """What the server of the scenario answered.

    `text`, `json`: the replies to a plain request and to one in JSON mode; None if not sent.
    """

    base_url: str
    models: ModelList | None
    text: Reply | None
    json: Reply | None


class Examined(NamedTuple):
    """What the checks look at.

    `own`: the scenario of each cell. `text`: of the scenario file. `environment`: with the names in
    `.env`. `folder`: the current one. `today`: in UTC. `measured`: a run, if there is one.
    `probed`: None without permission to send anything.
    """

    scenario: Scenario
    own: Mapping[str, Scenario]
    text: str
    environment: Mapping[str, str]
    folder: Path
    today: datetime.date
    measured: MeasuredRun | None
    probed: Probed | None


class Found(NamedTuple):
    """The result of one check, before it has the name of the check."""

    level: Level
    reason: str
    fix: str = ""


class Check(NamedTuple):
    """One check. `name`: in the output. `question`, `why`, `remedy`: for docs/production.md."""

    name: str
    question: str
    why: str
    remedy: str
    find: Callable[[Examined], Found]


def ok(reason: str) -> Found:
    """Return that nothing is wrong."""
    return Found("ok", reason)


def skipped(reason: str) -> Found:
    """Return that the check does not apply."""
    return Found("skipped", reason)


NO_RUN = "needs a run of the scenario; name one with --run RUN"
NO_PROBE = "sends requests; allow them with --probe"
IS_SIMULATED = "the provider is simulated"
