"""The scenario file: TOML read once into frozen values.

Durations are in scenario seconds, written as `"500ms"`, `"30s"`, `"2m"`, `"1h"` or as a number
of seconds. One scenario second lasts `endpoint.time_scale` real seconds. Unknown keys are refused
with the nearest known one, so a typing mistake never silently changes what is measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.config.budget import PRICE_WAY_OUT, Budget, budget_objection
from harness.config.config_base import Count, Name, Section, Several, Text, distinct
from harness.config.load import Load
from harness.config.prices import Price
from harness.config.tables import Duration
from harness.config.validation_messages import complain, one_line
from harness.endpoints.registry import Endpoint
from harness.endpoints.section import RealModelSection
from harness.endpoints.simulated import SimulatedEndpoint
from harness.policies.registry import BUILT_IN_POLICIES, RetryPolicy
from harness.policies.resolve import PolicyParts, check_policies, names_in, resolve
from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.workflows.execution import WorkflowPlan
from harness.workflows.layout import Layout, branches_of
from harness.workflows.registry import WORKFLOWS, AnyWorkflow, filled, settings_of
from harness.workflows.text_files import read_texts

Mode = Literal["sync", "threads", "async"]
PermitScope = Literal["attempt", "call"]


class Timeouts(Section):
    """When to give up waiting. `first_token` is `call` when absent; `idle` is for streams."""

    connect: Duration = 5.0
    first_token: Duration | None = None
    idle: Duration = 60.0
    call: Duration = 600.0
    workflow: Duration | None = None


class Sweep(Section):
    """The settings to vary; they multiply. `sync` runs with one permit whatever `permits` says."""

    mode: Annotated[Several[Mode], AfterValidator(distinct)] = ("async",)
    permits: Annotated[Several[Count], AfterValidator(distinct)] = (1,)
    retry: Annotated[Several[Name], AfterValidator(distinct)] = ("none",)
    permit_scope: Annotated[Several[PermitScope], AfterValidator(distinct)] = ("attempt",)
    repeats: Count = 1


class Objective(Section):
    """What the recommendation minimises."""

    minimise: Literal["makespan", "workflow_p95", "cost_per_successful_workflow"] = "makespan"


class Slo(Section):
    """What a cell must keep to count; `workflow_latency` bounds goodput."""

    success_rate: float | None = Field(default=None, ge=0, le=1)
    workflow_latency: Duration | None = None


class Success(Section):
    """How many branches a degraded workflow needs to count as a success; all when absent."""

    min_branches: int | None = Field(default=None, ge=1)


class Scenario(Section):
    """A whole scenario file, resolved: every default filled in, every named policy described.

    `transcripts`: keep what was asked and answered, in transcripts.jsonl. `prompts`: the texts that
    replace the workflow's own.
    """

    name: Name
    description: str = ""
    seed: int = Field(default=0, ge=0)
    transcripts: bool = False
    workflow: AnyWorkflow
    prompts: dict[str, Text | None] = Field(default_factory=dict, validate_default=True)
    endpoint: Endpoint = SimulatedEndpoint()
    load: Load = Load()
    timeouts: Timeouts = Timeouts()
    sweep: Sweep = Sweep()
    retry: dict[Name, RetryPolicy] = Field(default_factory=dict)
    objective: Objective = Objective()
    slo: Slo = Slo()
    success: Success = Success()
    budget: Budget = Budget()

    @field_validator("prompts")
    @classmethod
    def _prompts_are_known(
        cls, texts: dict[str, str | None], info: ValidationInfo
    ) -> dict[str, str | None]:
        workflow = info.data.get("workflow")
        if workflow is None:  # which is wrong itself
            return texts
        return filled(texts, WORKFLOWS.of(workflow).templates, None)

    @field_validator("endpoint")
    @classmethod
    def _phases_are_known(cls, endpoint: Endpoint, info: ValidationInfo) -> Endpoint:
        workflow = info.data.get("workflow")
        if workflow is None:  # which is wrong itself
            return endpoint
        known = settings_of(workflow)
        if isinstance(endpoint, SimulatedEndpoint):
            for number, fault in enumerate(endpoint.faults or ()):
                filled(dict.fromkeys(fault.phases or ()), known, None, "faults", number, "phases")
        if not isinstance(endpoint, RealModelSection):
            return endpoint
        key = "extra_body_by_phase"
        bodies = filled(endpoint.extra_body_by_phase, known, {}, key)
        return endpoint.model_copy(update={key: bodies})

    @model_validator(mode="after")
    def _policies_are_known(self) -> Scenario:
        check_policies(self.retry, self.sweep.retry, self.sweep.mode, self.endpoint.stream)
        return self

    @model_validator(mode="after")
    def _success_is_possible(self) -> Scenario:
        needed, had = self.success.min_branches, branches_of(self.layout)
        if needed is not None and needed > had:
            raise ValueError(
                f"success.min_branches = {needed}: a workflow has {had} branches; "
                "no workflow could succeed"
            )
        return self

    @model_validator(mode="after")
    def _objective_depends_on_the_cell(self) -> Scenario:
        if self.load.arrivals is not None and self.objective.minimise == "makespan":
            raise ValueError(
                "objective.minimise = 'makespan': with load.arrivals the arrivals set the "
                "makespan; use 'workflow_p95' or 'cost_per_successful_workflow'"
            )
        return self

    @model_validator(mode="after")
    def _time_can_jump(self) -> Scenario:
        if self.is_virtual and "threads" in self.sweep.mode:
            raise ValueError(
                'sweep.mode names "threads", which has no virtual time: the operating system '
                'decides which thread is next; use "sync" and "async", or endpoint.time = "real"'
            )
        return self

    @model_validator(mode="after")
    def _money_is_counted(self) -> Scenario:
        facts = self.endpoint.facts
        limits, simulated = self.workflow.max_tokens, facts.simulation is not None
        problem = budget_objection(self.budget, limits, facts.bodies, facts.price, simulated)
        if self.objective.minimise == "cost_per_successful_workflow" and self.price is None:
            problem = problem or (
                f"objective.minimise = {self.objective.minimise!r}: the price is not known; "
                f"{PRICE_WAY_OUT}"
            )
        if problem:
            raise ValueError(problem)
        return self

    @property
    def plan(self) -> WorkflowPlan:
        """What a run does in each of its workflows."""
        kind, section = WORKFLOWS.of(self.workflow), self.workflow
        json_mode, timeout = self.endpoint.facts.json_mode, self.timeouts.workflow
        return WorkflowPlan(
            kind,
            section,
            {
                key: template._replace(text=self.prompts.get(key) or template.text)
                for key, template in kind.templates.items()
            },
            tuple(
                msgspec.structs.replace(
                    info,
                    max_tokens=section.max_tokens[info.setting],
                    json=info.json and json_mode,
                )
                for info in kind.phases(section)
            ),
            None if timeout is None else round(timeout * self.time_scale * SECOND),
        )

    @property
    def layout(self) -> Layout:
        """The tree of the calls of a workflow, about the longest topic."""
        return self.plan.layout(max(self.workflow.topics, key=len))

    @property
    def price(self) -> Price | None:
        """What tokens cost; None where neither the scenario nor the price list says it."""
        return self.endpoint.facts.price

    @property
    def time_scale(self) -> float:
        """How many real seconds a scenario second lasts."""
        return self.endpoint.facts.time_scale

    @property
    def is_virtual(self) -> bool:
        """Whether a run is simulated in virtual time."""
        simulation = self.endpoint.facts.simulation
        return simulation is not None and simulation.virtual

    def policy(self, name: str) -> PolicyParts:
        """Return what the policy that the scenario calls `name` is made of."""
        return resolve(self.retry, name)

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved scenario as plain values, ready for JSON."""
        resolved: dict[str, Any] = self.model_dump(mode="json")
        policies = {**BUILT_IN_POLICIES, **self.retry}
        parts = (part for name in self.sweep.retry for part in names_in(self.retry, name))
        resolved["retry"] = {
            name: policies[name].model_dump(mode="json")
            for name in dict.fromkeys((*self.sweep.retry, *parts))
        }
        return resolved


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file and apply `dotted.key=value` overrides.

    Raises InputError, one line: the file, the key, the value and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _input_error(path, "no such file; give the path of a scenario (TOML)") from None
    except (OSError, ValueError) as error:
        raise _input_error(path, f"cannot be read ({error}); give a TOML file") from None
    return parse_scenario(text, str(path), overrides, path.parent)


def parse_scenario(
    text: str, where: str, overrides: Sequence[str] = (), folder: Path = Path()
) -> Scenario:
    """Turn the text of a scenario into its frozen value.

    `where` names it in errors; `folder` is where the files it names are looked for.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _input_error(where, f"not valid TOML: {error}; mend that") from None
    for override in overrides:
        apply_override(values, override)
    trouble = read_texts(values, folder, {_key(override) for override in overrides})
    if trouble:
        raise _input_error(_source(where, overrides, trouble.key), trouble.what)
    return validated(values, where, overrides)


def validated(values: dict[str, Any], where: str, overrides: Sequence[str]) -> Scenario:
    """Return the scenario that `values` are, with `overrides` applied. Raises InputError."""
    try:
        return Scenario.model_validate(values)
    except ValidationError as error:
        key, what = complain(error.errors()[0], values)
        raise _input_error(_source(where, overrides, key), what) from None


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put one `dotted.key=value` into the tables of a scenario. Raises InputError."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise _input_error(f"--set {override}", "no setting; write it as dotted.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string: --set endpoint.profile=plain-chat
    table = values
    *parents, last = key.strip().split(".")
    for parent in parents:
        child = table.setdefault(parent, {})
        if not isinstance(child, dict):
            raise _input_error(f"--set {override}", f"{parent} is not a table; check the key")
        table = child
    table[last] = value


def _source(where: str, overrides: Sequence[str], key: str) -> str:
    """Return the override that set `key`, without its value, or else the file."""
    for override in reversed(overrides):
        was_set = _key(override)
        # The other way round: an override can make a table that must not be there.
        if f"{key}.".startswith(f"{was_set}.") or was_set.startswith(f"{key}."):
            return f"--set {was_set}"
    return where


def _input_error(where: object, what: str) -> InputError:
    return InputError(one_line(f"{where}: {what}"))
