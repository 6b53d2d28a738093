"""`kind = "command"`: runs a command of the user as a workflow."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.engine.effects import Host, HostedEndedError, HostedResult, Program, RunHosted
from harness.records.clock import SECOND
from harness.records.schema import PhaseInfo
from harness.workflows.code_section import hosted_terms
from harness.workflows.command.environment import CommandFields, command_environment
from harness.workflows.command.section import CommandSection
from harness.workflows.context import WorkflowContext, WorkflowFailedError
from harness.workflows.layout import Layout
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.protocol import WorkflowKind


class CommandKind:
    """The workflow of a user's command."""

    section = CommandSection
    templates: Mapping[str, PromptTemplate] = {}

    def phases(self, section: CommandSection) -> tuple[PhaseInfo, ...]:
        """Return the phases that the section names; the command can have others."""
        return section.expected_phases()

    def layout(
        self, section: CommandSection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return the calls that the section names."""
        return section.expected_layout()

    def program(self, context: WorkflowContext[CommandSection]) -> Program[str]:
        """Run the command for one topic. A workflow has no text: what it prints is in a file."""
        limit = round(context.section.own_time_limit * SECOND)
        result: HostedResult = yield RunHosted(lambda host: _run(host, context), context.end, limit)
        if isinstance(result.error, HostedEndedError):
            raise WorkflowFailedError(str(result.error))
        if isinstance(result.error, OSError):
            reason = result.error.strerror or type(result.error).__name__
            raise WorkflowFailedError(f"the command cannot be started ({reason})")
        if result.error is not None:
            raise result.error
        if context.exit_code:
            raise WorkflowFailedError(exit_text(context.exit_code))
        return ""


COMMAND: WorkflowKind[CommandSection] = CommandKind()


def exit_text(code: int) -> str:
    """Return in one line how a command has failed. `code`: negative for a signal."""
    if code > 0:
        return f"the command ended with exit code {code}"
    try:
        return f"the command was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the command was ended by signal {-code}"


async def _run(host: Host, context: WorkflowContext[CommandSection]) -> None:
    """Run the command to its end, with a gateway for its requests."""
    # Imported late: the openai package is slow to import.
    from harness.client.child_process import CommandLine, start_command
    from harness.client.gateway import HOST, Gateway
    from harness.client.hosted_calls import HostedCalls

    section = context.section
    calls = HostedCalls(host, hosted_terms(context, _no_name, passes_unread=True))
    try:
        async with Gateway(calls) as gateway:
            fields = CommandFields(context.topic, gateway.url)
            command = CommandLine(
                [fields.fill(part) for part in section.command],
                command_environment(os.environ, context.withheld, section.env, fields, HOST),
                Path(section.folder),
            )
            child = await start_command(command, _print)
            try:
                context.exit_code = await child.exit_code()
            finally:
                await child.end()
                context.stderr = str(child.stderr) or None
    finally:
        context.own_code = calls.own_time()
        context.own_retries = calls.own_retries


def _no_name() -> None:
    """Return no name: the phase of a call is that of its path."""


def _print(text: str) -> Any:
    """Print to the file of the trial, to which stdout is redirected."""
    return sys.stdout.write(text)
