"""Runs an async function that uses the openai package as a workflow.

The function runs in the event loop. Each request of its clients becomes a call with the permits,
the policy and the budget of the cell, and gets the response of the attempt that ends the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Any

from harness.engine.effects import Host, HostedResult, Program, RunHosted
from harness.records.clock import SECOND
from harness.workflows.code_section import hosted_terms
from harness.workflows.context import WorkflowContext
from harness.workflows.program.environment import prepared_environment
from harness.workflows.program.phases import NamedPhases, current_phase, named_phases
from harness.workflows.program.section import ProgramSection

CLIENT = "client"
"""The first parameter of a function that gets a client."""

TOPIC = "topic"
"""The next parameter, whatever its name."""


def hosted_program(
    function: Callable[..., Awaitable[Any]], context: WorkflowContext[ProgramSection]
) -> Program[Any]:
    """Run a function for the topic of a workflow; return what it returns.

    Raises what it raises, and HostedEndedError if it was refused or ended: at the deadline of the
    workflow, after too many calls, or after `own_time_limit` without a call.
    """
    # Imported late: the openai package is slow to import.
    from harness.client.hosted_calls import HostedCalls
    from harness.client.instrumentation import HostedOpenAI, current_calls, instrumented

    section = context.section
    terms = hosted_terms(context, current_phase.get)

    async def start(host: Host) -> Any:
        calls, phases = HostedCalls(host, terms), NamedPhases(host.now)
        current_calls.set(calls)
        named_phases.set(phases)
        try:
            wanted = wanted_by(function, section.arguments)
            given = [HostedOpenAI(calls) if it == CLIENT else context.topic for it in wanted]
            return await function(*given, **section.arguments)
        finally:
            context.own_code = calls.own_time()
            context.own_retries = calls.own_retries
            context.phases.extend(phases.ended())

    with prepared_environment(), instrumented() if section.instrument else nullcontext():
        result: HostedResult = yield RunHosted(
            start, context.end, round(section.own_time_limit * SECOND)
        )
    if result.error is not None:
        raise result.error
    return result.value


def wanted_by(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return what a function gets by position beside its `arguments`: CLIENT, TOPIC, both, or none.

    Its parameters say so.
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    named = [it.name for it in parameters if it.kind in positional and it.name not in arguments]
    wanted = [CLIENT] if named[:1] == [CLIENT] else []
    return [*wanted, TOPIC] if len(named) > len(wanted) else wanted
