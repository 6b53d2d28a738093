"""Measures how an LLM workflow should call its model: permits, retries, sync or async.

`run` runs a scenario, `read_run` opens a run, `compare` compares two. A program uses a measured
setting with `AsyncOpenAI` or `OpenAI`. A program of yours with the decorator `workflow` can be
measured itself. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import limits as limits
    from harness import policies as policies
    from harness import workflows as workflows
    from harness.analysis.compare import Comparison as Comparison
    from harness.analysis.model import Summary as Summary
    from harness.bench.scenario import Scenario as Scenario
    from harness.client.async_client import AsyncOpenAI as AsyncOpenAI
    from harness.client.ended_attempts import FailedResponseError as FailedResponseError
    from harness.client.sync_client import OpenAI as OpenAI
    from harness.config.timeouts import Timeouts as Timeouts
    from harness.library import Result as Result
    from harness.library import compare_results as compare
    from harness.library import find_scenario as load_scenario
    from harness.library import open_run as read_run
    from harness.library import run_to_result as run
    from harness.records.errors import HarnessError as HarnessError
    from harness.store.run_directory import Records as Records
    from harness.workflows.program.asking import Answer as Answer
    from harness.workflows.program.asking import CallFailedError as CallFailedError
    from harness.workflows.program.asking import Scored as Scored
    from harness.workflows.program.asking import read_time as now
    from harness.workflows.program.asking import sleep_for as sleep
    from harness.workflows.program.gathering import GatherFailedError as GatherFailedError
    from harness.workflows.program.gathering import gather as gather
    from harness.workflows.program.loading import workflow as workflow
    from harness.workflows.program.phases import phase as phase
else:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Return a name of the public face; each is imported when it is first used."""
        if name in _PACKAGES:
            return importlib.import_module(f"harness.{name}")
        if name in _PLACES:
            module, _, attribute = _PLACES[name].partition(":")
            return getattr(importlib.import_module(module), attribute or name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncOpenAI",
    "CallFailedError",
    "Comparison",
    "FailedResponseError",
    "GatherFailedError",
    "HarnessError",
    "OpenAI",
    "Records",
    "Result",
    "Scenario",
    "Scored",
    "Summary",
    "Timeouts",
    "compare",
    "gather",
    "limits",
    "load_scenario",
    "now",
    "phase",
    "policies",
    "read_run",
    "run",
    "sleep",
    "workflow",
    "workflows",
]

_PACKAGES = ("limits", "policies", "workflows")

_PLACES = {
    "Answer": "harness.workflows.program.asking",
    "AsyncOpenAI": "harness.client.async_client",
    "CallFailedError": "harness.workflows.program.asking",
    "Comparison": "harness.analysis.compare",
    "FailedResponseError": "harness.client.ended_attempts",
    "GatherFailedError": "harness.workflows.program.gathering",
    "HarnessError": "harness.records.errors",
    "OpenAI": "harness.client.sync_client",
    "Records": "harness.store.run_directory",
    "Result": "harness.library",
    "Scenario": "harness.bench.scenario",
    "Scored": "harness.workflows.program.asking",
    "Summary": "harness.analysis.model",
    "Timeouts": "harness.config.timeouts",
    "compare": "harness.library:compare_results",
    "gather": "harness.workflows.program.gathering",
    "load_scenario": "harness.library:find_scenario",
    "now": "harness.workflows.program.asking:read_time",
    "phase": "harness.workflows.program.phases",
    "read_run": "harness.library:open_run",
    "run": "harness.library:run_to_result",
    "sleep": "harness.workflows.program.asking:sleep_for",
    "workflow": "harness.workflows.program.loading",
}
