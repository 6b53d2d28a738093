"""Runs an async function that uses the openai package as a workflow.

The function runs in the event loop. Each request of its clients becomes a call with the permits,
the policy and the budget of the cell, and gets the response of the attempt that ends the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from harness.engine.effects import Host, HostedResult, Program, RunHosted
from harness.records.clock import SECOND
from harness.workflows.context import WorkflowContext
from harness.workflows.program.environment import prepared_environment
from harness.workflows.program.phases import current_phase
from harness.workflows.program.section import ProgramSection

CLIENT = "client"
"""The first parameter of a function that gets a client."""


def hosted_program(
    function: Callable[..., Awaitable[Any]], context: WorkflowContext[ProgramSection]
) -> Program[Any]:
    """Run a function for the topic of a workflow; return what it returns.

    Raises what it raises, and HostedEndedError if it was refused or ended: at the deadline of the
    workflow, after too many calls, or after `own_time_limit` without a call.
    """
    # Imported late: the openai package is slow to import.
    from harness.client.hosted_calls import HostedCalls, HostedTerms
    from harness.client.instrumentation import HostedOpenAI, current_calls, instrumented

    section = context.section
    terms = HostedTerms(
        terms=context.terms,
        end=context.end,
        next_key=context.next_key,
        named_phase=current_phase.get,
        limits=section.max_tokens,
        needs_limit=context.needs_limit,
        keeps_model=section.keep_model,
        most=section.most_calls,
        nonce=context.prompts.nonce,
    )

    async def start(host: Host) -> Any:
        calls = HostedCalls(host, terms)
        current_calls.set(calls)
        try:
            arguments: list[Any] = []
            named = [name for name in parameters_of(function) if name not in section.arguments]
            if named[:1] == [CLIENT]:
                arguments.append(HostedOpenAI(calls))
            if len(named) > len(arguments):
                arguments.append(context.topic)
            return await function(*arguments, **section.arguments)
        finally:
            context.own_code = calls.own_time()
            context.own_retries = calls.own_retries

    with prepared_environment(), instrumented() if section.instrument else nullcontext():
        result: HostedResult = yield RunHosted(
            start, context.end, round(section.own_time_limit * SECOND)
        )
    if result.error is not None:
        raise result.error
    return result.value


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that can be given by position."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in positional]
