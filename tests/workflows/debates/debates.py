"""A workflow kind of another package: some drafts in parallel, then one call picks the best."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from harness.engine.effects import Program
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext
from harness.workflows.layout import InParallel, InSequence, Layout, PlannedCall, tokens_of
from harness.workflows.partial_failure import fail_fast
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.section import WorkflowSection


class DebateSection(WorkflowSection):
    kind: Literal["debate"]
    drafts: int = Field(default=3, ge=1)


class DebateKind:
    section = DebateSection
    templates: Mapping[str, PromptTemplate] = {
        "draft": PromptTemplate("Write about {topic}.", needed=("topic",))
    }

    def phases(self, section: DebateSection) -> tuple[PhaseInfo, ...]:
        return (PhaseInfo(name="draft", setting="draft"), PhaseInfo(name="pick", setting="pick"))

    def layout(
        self, section: DebateSection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        draft = PlannedCall("draft", tokens_of(prompts.messages("draft", topic=topic)))
        pick = PlannedCall("pick", section.drafts * most["draft"])
        return InSequence((InParallel((draft,) * section.drafts), pick))

    def program(self, context: WorkflowContext[DebateSection]) -> Program[str]:
        drafts = context.section.drafts
        asked = [context.prompts.messages("draft", topic=context.topic)] * drafts
        found = yield from context.fan_out("draft", asked, fail_fast(drafts))
        text = "\n\n".join(one.answer for one in found)
        best = yield from context.call("pick", context.prompts.chat(f"Pick the best:\n{text}"))
        return best.answer


DEBATE = DebateKind()
