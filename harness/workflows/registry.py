"""The kinds of workflow that `workflow.kind` can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SerializeAsAny

from harness.config.kinds import KindTable
from harness.config.tables import unknown_key
from harness.workflows.protocol import WorkflowKind
from harness.workflows.section import WorkflowSection

DEFAULT_KIND = "research"

WORKFLOWS: KindTable[WorkflowKind[Any]] = KindTable(
    "harness.workflows",
    {
        "research": "harness.workflows.research.kind:RESEARCH",
        "agent": "harness.workflows.agent:AGENT",
        "program": "harness.workflows.program.kind:PROGRAM",
        "command": "harness.workflows.command.kind:COMMAND",
        "replay": "harness.workflows.replay.kind:REPLAY",
        "gateway": "harness.workflows.gateway:GATEWAY",
    },
    attrgetter("section"),
)


def _with_default_kind(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    named = (kind for kind in ("program", "command") if kind in value)
    return {"kind": next(named, DEFAULT_KIND), **value}


def phase_settings(section: WorkflowSection) -> tuple[str, ...]:
    """Return the names under which the phases of a workflow have settings, in order."""
    return tuple(dict.fromkeys(info.setting for info in WORKFLOWS.of(section).phases(section)))


def filled(
    values: Mapping[str, Any], known: Iterable[str], default: Any, *place: str | int
) -> dict[str, Any]:
    """Return `values` with `default` for each other one of the `known` names.

    Raises SettingError at `place` if a name in `values` is unknown.
    """
    names = tuple(known)
    for name in values:
        if name not in names:
            error = unknown_key(name, names)
            error.path = (*place, name)
            raise error
    return {name: values.get(name, default) for name in names}


def _limits_are_known(section: WorkflowSection) -> WorkflowSection:
    known = phase_settings(section)
    if section.has_open_phases:
        known = (*known, *section.max_tokens)
    limits = filled(section.max_tokens, known, None, "max_tokens")
    return section.model_copy(update={"max_tokens": limits})


AnyWorkflow = Annotated[
    SerializeAsAny[WorkflowSection],
    AfterValidator(_limits_are_known),
    BeforeValidator(WORKFLOWS.validate),
    BeforeValidator(_with_default_kind),
]
"""The section `[workflow]` of any kind, with a limit or None for every phase."""
