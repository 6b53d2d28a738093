"""`kind = "program"`: runs the user's own function as a workflow."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.engine.effects import (
    NOW,
    WITHOUT_EVENT_LOOP,
    Cancelled,
    HostedEndedError,
    Program,
)
from harness.engine.program_limits import CANCELLED_ITSELF
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext, WorkflowFailedError
from harness.workflows.layout import Layout
from harness.workflows.program.asking import CallFailedError, Scored, make_call
from harness.workflows.program.gathering import GatherFailedError
from harness.workflows.program.hosted import hosted_program
from harness.workflows.program.loading import error_line, is_marked, load_program, place_of
from harness.workflows.program.running import ProgramRun, Strand, driven
from harness.workflows.program.section import ProgramSection
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.protocol import WorkflowKind

_NO_LOOP = re.compile("no (running|current) event loop")


class ProgramKind:
    """The workflow of a user's program."""

    section = ProgramSection
    templates: Mapping[str, PromptTemplate] = {}

    def phases(self, section: ProgramSection) -> tuple[PhaseInfo, ...]:
        """Return the phases that the section names; the program can have others."""
        return section.expected_phases()

    def layout(
        self, section: ProgramSection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return the calls that the section names."""
        return section.expected_layout()

    def program(self, context: WorkflowContext[ProgramSection]) -> Program[str]:
        """Run the function for one topic; its result is the text of the workflow."""
        section = context.section
        run = ProgramRun(context)
        strand = Strand(run, context.at)
        text, failure = "", None
        try:
            function = load_program(section.program)
            if is_marked(function):
                result = yield from driven(
                    strand, function(make_call, context.topic, **section.arguments)
                )
            else:
                result = yield from hosted_program(function, context)
            text = _judged(context, run, result)
        except (
            WorkflowFailedError, CallFailedError, GatherFailedError, HostedEndedError,
        ) as error:  # fmt: skip
            failure = str(error)
        except Cancelled:  # no workflow is cancelled by the engine
            failure = CANCELLED_ITSELF
        except Exception as error:  # any error of the program
            failure = _reason(section, error)
        end: int = yield NOW
        run.end(end, strand)
        if failure is not None:
            raise WorkflowFailedError(failure)
        return text


PROGRAM: WorkflowKind[ProgramSection] = ProgramKind()


def _judged(context: WorkflowContext[ProgramSection], run: ProgramRun, result: object) -> str:
    """Return the result of a program as text; note its judgement.

    A program that goes on without some branches of a gather has said how many are enough.
    """
    if isinstance(result, Scored):
        context.ok, result = bool(result.ok), result.result
    elif run.has_gaps:
        context.ok = True
    return "" if result is None else str(result)


def _reason(section: ProgramSection, error: Exception) -> str:
    reason = error_line(error, place_of(section.program).source)
    return f"{reason}; {WITHOUT_EVENT_LOOP}" if _NO_LOOP.search(reason) else reason
