"""The kinds of workflow that `workflow.kind` can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from harness.config.kinds import KindTable
from harness.workflows.agent import AGENT
from harness.workflows.protocol import WorkflowKind
from harness.workflows.research.kind import RESEARCH
from harness.workflows.section import WorkflowSection

DEFAULT_KIND = "research"

WORKFLOWS: KindTable[WorkflowKind[Any]] = KindTable("harness.workflows", (RESEARCH, AGENT))


def _with_default_kind(value: Any) -> Any:
    return {"kind": DEFAULT_KIND, **value} if isinstance(value, Mapping) else value


def settings_of(section: WorkflowSection) -> tuple[str, ...]:
    """Return the names under which the phases of a workflow have settings, in order."""
    return tuple(dict.fromkeys(info.setting for info in WORKFLOWS.of(section).phases(section)))


def filled(
    values: Mapping[str, Any], known: Iterable[str], default: Any, *place: str | int
) -> dict[str, Any]:
    """Return `values` with `default` for each other one of the `known` names.

    Raises a ValidationError at `place` if a name in `values` is unknown.
    """
    names = tuple(known)
    for name in values:
        if name not in names:
            unknown = PydanticCustomError(
                "unknown_key", "{key}: unknown key", {"key": name, "known": names}
            )
            details = InitErrorDetails(type=unknown, loc=place, input=values)
            raise ValidationError.from_exception_data("scenario", [details])
    return {name: values.get(name, default) for name in names}


def _limits_are_known(section: WorkflowSection) -> WorkflowSection:
    limits = filled(section.max_tokens, settings_of(section), None, "max_tokens")
    return section.model_copy(update={"max_tokens": limits})


AnyWorkflow = Annotated[
    SerializeAsAny[WorkflowSection],
    AfterValidator(_limits_are_known),
    BeforeValidator(WORKFLOWS.validate),
    BeforeValidator(_with_default_kind),
]
"""The section `[workflow]` of any kind, with a limit or None for every phase."""
