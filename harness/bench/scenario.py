"""A scenario: the values of a scenario file, frozen. `scenario_file` reads it.

Durations are in scenario seconds, written as `"500ms"`, `"30s"`, `"2m"`, `"1h"` or as a number
of seconds. One scenario second lasts `endpoint.time_scale` real seconds. Unknown keys are errors,
so that a typing mistake never changes what is measured.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.analysis.looks import FEWEST_REPEATS, Looks, growing_looks, one_look
from harness.analysis.question import MEASURING, Question
from harness.bench.swept_values import PermitsValue, different_values
from harness.bench.tune_section import Tune
from harness.config.budget import Budget, check_budget
from harness.config.config_base import Count, Name, Section, Several, Text, distinct
from harness.config.load import LIVE_WARMUP_CALLS, Load
from harness.config.prices import PRICE_WAY_OUT, Price
from harness.config.tables import Duration, SettingError, nearest, unknown
from harness.config.timeouts import Timeouts
from harness.endpoints.registry import Endpoint
from harness.endpoints.section import RealModelSection
from harness.endpoints.simulated import SimulatedEndpoint
from harness.limits.registry import LIMIT_KINDS, AdaptivePermits, limit_named
from harness.limits.section import LimitSection
from harness.policies.registry import BUILT_IN_POLICIES, RetryPolicy
from harness.policies.resolve import PolicyParts, check_policies, names_in, resolve
from harness.records.clock import SECOND
from harness.records.schema import CellInfo, RecordsKept
from harness.records.settings import (
    CLIENT_KEY,
    in_event_loop,
    join_key,
    split_key,
    with_settings,
)
from harness.workflows.execution import WorkflowPlan
from harness.workflows.layout import Layout, branches_of
from harness.workflows.registry import WORKFLOWS, AnyWorkflow, filled, phase_settings
from harness.workflows.section import WorkflowSection

_MINIMISE = ("objective", "minimise")

Mode = Literal["sync", "serial", "threads", "async"]
PermitScope = Literal["attempt", "call"]


class ScenarioTimeouts(Timeouts):
    """The timeouts of a scenario.

    Example::

        [timeouts]
        first_token = "5m"
        call = "10m"
    """

    workflow: Duration | None = None
    """From ready to the end of a workflow. If it is absent, there is no limit."""


SWEPT_SECTIONS = ("endpoint", "load", "retry", "timeouts", "workflow")
"""The sections whose keys can differ between the cells of a run."""

_SAME_IN_ALL_CELLS = {
    "endpoint.kind": "the kinds of endpoint have different keys; run one scenario for each",
    "endpoint.time": "a run has one kind of time; run one scenario for each",
    "endpoint.time_scale": "all times of a run have one scale; run one scenario for each",
    "load.workflows": "all trials of a run have equally many; run one scenario for each",
    "workflow.kind": "the kinds of workflow have different phases; run one scenario for each",
    "workflow.data": "runs with different records have different calls; run one scenario for each",
    "workflow.topics_file": 'sweep "workflow.topics" with the topics themselves',
}
"""Keys of these sections that cannot differ, and what to do instead."""


def _repeats(value: object) -> object:
    if value != "auto" and (type(value) is not int or not 1 <= value <= 1_000_000):
        raise ValueError("must be a whole number of at least 1, or 'auto'")
    return value


FEWEST_FOR_P95 = 13
"""The fewest workflows of a repeat that have a 95th percentile (`percentile_by_repeat`)."""

DEFAULT_MAX_REPEATS = 60
"""How often a cell runs at most with `sweep.repeats = "auto"`, unless the scenario says it."""


class Sweep(Section):
    """The values to vary; every combination of them is a setting.

    It also takes dotted keys of the scenario, in quotes: any key of `[workflow]`, `[endpoint]`,
    `[load]`, `[timeouts]` and `[retry.NAME]` that can differ between the settings of a run.

    Example::

        [sweep]
        mode = ["sync", "async"]
        permits = [2, 8]
        retry = ["none", "openai-sdk"]
        repeats = 5
        "workflow.sub_questions" = [2, 4]
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Several[Any], AfterValidator(different_values)]]

    mode: Annotated[Several[Mode], AfterValidator(distinct)] = ("async",)
    """`sync` makes one call after another, `threads` has a thread for each call, `async` an event
    loop; `serial` makes one call after another in an event loop, for programs that need one.
    """
    permits: Annotated[Several[PermitsValue], AfterValidator(distinct)] = (1,)
    """The most attempts in flight in the whole process, or the name of a limit that adapts:
    `elastic`, `aimd`, `gradient2`, `inspect-ai`, or one of `[permits.NAME]`. `sync` and `serial`
    have one permit, whatever is given.
    """
    retry: Annotated[Several[Name], AfterValidator(distinct)] = ("none",)
    """Names of retry policies: `none`, `openai-sdk`, `aws-standard`, or those of `[retry.NAME]`."""
    permit_scope: Annotated[Several[PermitScope], AfterValidator(distinct)] = ("attempt",)
    """`attempt` returns the permit during backoff; `call` holds it until the call ends."""
    repeats: Annotated[int | Literal["auto"], BeforeValidator(_repeats)] = 1
    """How often each setting runs; `"auto"`: until the recommendation is settled."""
    max_repeats: Annotated[Count, Field(ge=FEWEST_REPEATS)] | None = None
    """How often each setting runs at most with `repeats = "auto"`; 60 if absent."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if values.get("repeats") == "auto":
            values = {"max_repeats": DEFAULT_MAX_REPEATS, **values}
        swept = {key: values[key] for key in values if key not in cls.model_fields}
        _check_swept_keys(swept, cls)
        return values

    @model_validator(mode="after")
    def _limit_has_an_effect(self) -> Sweep:
        if self.max_repeats is not None and self.repeats != "auto":
            raise SettingError(
                f"has no effect with repeats = {self.repeats}; set repeats = 'auto', or remove it "
                "(--set sweep.max_repeats= removes it)",
                "max_repeats",
                value=self.max_repeats,
            )
        return self

    @property
    def most_repeats(self) -> int:
        """How many repeats a run has at most."""
        return self.looks.repeats[-1]

    @property
    def looks(self) -> Looks:
        """After how many repeats the results are looked at."""
        if self.repeats == "auto":
            return growing_looks(self.max_repeats or DEFAULT_MAX_REPEATS)
        return one_look(self.repeats)

    @property
    def settings(self) -> dict[str, tuple[Any, ...]]:
        """The values of the dotted keys."""
        return self.__pydantic_extra__

    @property
    def has_several_clients(self) -> bool:
        """Whether the settings differ in what sends their requests; none is recommended then."""
        return len(self.settings.get(CLIENT_KEY, ())) > 1


def _check_swept_keys(swept: Mapping[str, Any], section: type[Section]) -> None:
    """Raise SettingError if a dotted key cannot be swept, or contains another one.

    `section`: of the keys.
    """
    for key, options in swept.items():
        if problem := sweep_objection(key, section):
            raise SettingError(problem, key)
        for option in options if isinstance(options, list | tuple) else [options]:
            if key.startswith("retry.") and isinstance(option, Mapping) and "layers" in option:
                raise SettingError(f"cannot contain a stack: {_NO_LAYERS}", key)
    for key, other in itertools.permutations(swept, 2):
        if split_key(other)[: len(split_key(key))] == split_key(key):
            raise SettingError(f"contains the swept key {other!r}; sweep one of them", key)


_NO_LAYERS = "describe one stack for each list of layers, and name them in sweep.retry"
_SAME_IN_ALL_POLICIES = {
    "kind": "the kinds of policy have different keys; describe one policy for each kind, and name "
    "them in sweep.retry",
    "layers": _NO_LAYERS,
}
"""Keys of a policy that cannot differ, and what to do instead."""


def sweep_objection(key: str, section: type[Section] = Sweep) -> str | None:
    """Return why `key` cannot be swept; None if it can. `section`: that has it."""
    try:
        parts = split_key(key)
    except ValueError:
        parts = [key]
    if key in _SAME_IN_ALL_CELLS:
        return f"cannot vary within a run: {_SAME_IN_ALL_CELLS[key]}"
    if len(parts) > 1 and key != join_key(parts):
        return f"write it as {json.dumps(join_key(parts))}"
    if parts[0] == "retry" and len(parts) == 3 and parts[-1] in _SAME_IN_ALL_POLICIES:
        return f"cannot vary within a run: {_SAME_IN_ALL_POLICIES[parts[-1]]}"
    if len(parts) > 1 and parts[0] in SWEPT_SECTIONS:
        return None
    if parts[0] in Scenario.model_fields and key not in SWEPT_SECTIONS:
        can = ", ".join(SWEPT_SECTIONS)
        return f"cannot vary within a run; keys of these sections can: {can}"
    if key in SWEPT_SECTIONS:
        return f'write the whole dotted key in quotes: "{key}.KEY" = ["a", "b"]'
    own = tuple(section.model_fields)
    if section is not Sweep and key in ("mode", "permit_scope"):
        return "is a key of [sweep], whose values a tune chooses from, too; write it there"
    close = nearest(parts[0] if len(parts) > 1 else key, (*own, *SWEPT_SECTIONS))
    return (
        f"unknown key{close}; use one of {', '.join(own)}, or a dotted key "
        'of the scenario in quotes, such as "endpoint.model" = ["a", "b"]'
    )


class Objective(Section):
    """What the recommendation minimises.

    Example::

        [objective]
        minimise = "workflow_p95"
    """

    minimise: Literal["makespan", "workflow_p95", "cost_per_successful_workflow"] = "makespan"
    """`makespan`: the time of a trial. `workflow_p95`: the 95th percentile of workflow latency.
    `cost_per_successful_workflow` needs a price. An open loop has no makespan to minimise.
    """
    margin: float = Field(default=0.02, gt=0, le=1)
    """By how much a better value does not matter, as a share."""
    success_margin: float = Field(default=0.05, gt=0, lt=1)
    """How far a success rate may be below the best setting's if `slo.success_rate` is absent."""


class Slo(Section):
    """The requirements for a recommended setting.

    Example::

        [slo]
        success_rate = 0.95
        workflow_latency = "4m"
    """

    success_rate: float | None = Field(default=None, ge=0, le=1)
    """The share of workflows that must succeed."""
    workflow_latency: Duration | None = None
    """A workflow that takes longer does not count as goodput. If it is absent, there is no limit.
    """


class Success(Section):
    """When a workflow with failed branches counts as a success.

    Example::

        [success]
        min_branches = 3
    """

    min_branches: int | None = Field(default=None, ge=1)
    """The branches that a degraded workflow needs to count as a success; all if absent."""


class Scenario(Section):
    """A scenario file with all defaults.

    Example::

        name = "example"
        seed = 7

        [workflow]
        topics = ["ocean tides", "river deltas"]
    """

    name: Name
    """Names the run and its directory: letters, digits, `.` and `-`."""
    description: str = ""
    """Shown by `harness scenarios`."""
    question: Question | None = None
    """What the result begins with: how many calls to run at once (`permits`), what each retry
    policy loses (`policy`), what a second request saves (`hedge`), how exactly this machine
    measures (`accuracy`), or what each client costs a request (`client`). Absent: what the swept
    settings ask.
    """
    seed: int = Field(default=0, ge=0)
    """Of all random draws: order of trials, jitter, simulated lengths, times and faults."""
    transcripts: bool = False
    """Keep prompts, reasoning and answers in transcripts.jsonl."""
    keep_error_bodies: bool = True
    """Keep the first 500 characters of the bodies of refusals in attempts.jsonl, without API keys.
    """
    records: RecordsKept = "full"
    """`full` keeps all records; `summary`, in virtual time, only what the statistics need."""
    workflow: AnyWorkflow
    """What one workflow does."""
    prompts: dict[str, Text | None] = Field(default_factory=dict, validate_default=True)
    """Texts that replace the prompts of the workflow. `NAME` is the text itself, `NAME_file` the
    path of a file that contains it; the workflow kind says which names there are.
    """
    endpoint: Endpoint = SimulatedEndpoint()
    """What answers the calls."""
    load: Load = Field(default=Load(), validate_default=True)
    """How many workflows a trial has, and when they start."""
    timeouts: ScenarioTimeouts = ScenarioTimeouts()
    """The limits of waiting."""
    sweep: Sweep = Sweep()
    """The settings to vary."""
    tune: Tune = Tune()
    """The settings that `harness tune` chooses from."""
    retry: dict[Name, RetryPolicy] = Field(default_factory=dict)
    """Retry policies by name, for `sweep.retry`."""
    permits: dict[Name, AdaptivePermits] = Field(default_factory=dict)
    """Limits that adapt by name, for `sweep.permits`."""
    objective: Objective = Objective()
    """What the recommendation minimises."""
    slo: Slo = Slo()
    """The requirements for a recommended setting."""
    success: Success = Success()
    """When a degraded workflow counts as a success."""
    budget: Budget = Budget()
    """The limits of a run."""

    @field_validator("prompts")
    @classmethod
    def _prompts_are_known(
        cls, texts: dict[str, str | None], info: ValidationInfo
    ) -> dict[str, str | None]:
        workflow = info.data.get("workflow")
        if workflow is None:  # it is invalid itself
            return texts
        return filled(texts, WORKFLOWS.of(workflow).templates, None)

    @field_validator("endpoint")
    @classmethod
    def _phases_are_known(cls, endpoint: Endpoint, info: ValidationInfo) -> Endpoint:
        workflow = info.data.get("workflow")
        if workflow is None:  # it is invalid itself
            return endpoint
        known, key = phase_settings(workflow), "extra_body_by_phase"
        for path, names in endpoint.phase_settings():
            for number, name in enumerate(names):
                if name not in known and not workflow.has_open_phases:
                    raise SettingError(unknown("phase", name, known), *path, number, value=name)
        if not isinstance(endpoint, RealModelSection):
            return endpoint
        if workflow.has_open_phases:
            known = (*known, *endpoint.extra_body_by_phase)
        bodies = filled(endpoint.extra_body_by_phase, known, {}, key)
        return endpoint.model_copy(update={key: bodies})

    @field_validator("tune", mode="before")
    @classmethod
    def _tuned_keys_are_known(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            own = {key: values[key] for key in values if key not in Tune.model_fields}
            _check_swept_keys(own, Tune)
        return values

    @field_validator("load")
    @classmethod
    def _warm_up_is_known(cls, load: Load, info: ValidationInfo) -> Load:
        endpoint: Endpoint | None = info.data.get("endpoint")
        workflow: WorkflowSection | None = info.data.get("workflow")
        if endpoint is None or workflow is None:  # it is invalid itself
            return load
        if workflow.is_gateway:
            return Load(workflows=None, warmup_calls=0)
        if load.workflows is None:
            raise SettingError("is missing; give the number of workflows in a trial", "workflows")
        if load.warmup_calls is not None:
            return load
        live = endpoint.facts.simulation is None
        return load.model_copy(update={"warmup_calls": LIVE_WARMUP_CALLS if live else 0})

    @model_validator(mode="after")
    def _sections_agree(self) -> Scenario:
        self._check_limits()
        check_policies(self.retry, self.sweep.retry, self.sweep.mode, self.endpoint.stream)
        needed, had = self.success.min_branches, branches_of(self.layout)
        if needed is not None and needed > had and self.workflow.knows_calls:
            problem = f"no workflow could succeed; a workflow has {had} branches"
            raise SettingError(problem, "success", "min_branches", value=needed)
        minimise = self.objective.minimise
        arrivals = self.load.arrivals
        if arrivals is not None and arrivals.process == "recorded":
            times = self.workflow.recorded_arrivals
            if times is None or not times[-1]:
                raise SettingError(
                    "needs the recorded arrivals of workflow.kind = 'replay', at different times; "
                    "use 'poisson' or 'constant'",
                    "load",
                    "arrivals",
                    "process",
                    value="recorded",
                )
        if self.load.arrivals is not None and minimise == "makespan":
            raise SettingError(
                "with load.arrivals, the arrivals determine the makespan; use 'workflow_p95' or "
                "'cost_per_successful_workflow'",
                *_MINIMISE,
                value=minimise,
            )
        if (
            self.sweep.repeats == "auto"
            and minimise == "workflow_p95"
            and (self.load.planned < FEWEST_FOR_P95)
        ):
            raise SettingError(
                f"with 'auto', the 95th percentile needs at least {FEWEST_FOR_P95} workflows in a "
                "repeat; raise load.workflows, or give a number of repeats",
                "sweep",
                "repeats",
                value="auto",
            )
        if self.is_virtual and "threads" in self.sweep.mode:
            raise SettingError(
                "has no virtual time, as the operating system schedules threads; use 'sync' and "
                "'async', or endpoint.time = 'real'",
                "sweep",
                "mode",
                value="threads",
            )
        if self.endpoint.client == "wire":
            self._check_wire()
        if self.workflow.is_process or self.workflow.is_gateway:
            self._check_process()
        if self.sweep.has_several_clients:
            self._check_several_clients()
        if self.records == "summary":
            self._check_summary()
        facts = self.endpoint.facts
        limits, simulated = self.workflow.max_tokens, facts.simulation is not None
        omitted = facts.request.omit
        check_budget(self.budget, limits, facts.bodies, omitted, facts.price, simulated)
        if minimise == "cost_per_successful_workflow" and self.price is None:
            problem = f"requires a known price; {PRICE_WAY_OUT}"
            raise SettingError(problem, *_MINIMISE, value=minimise)
        return self

    def _check_limits(self) -> None:
        for name in self.permits:
            if name.isdecimal():
                problem = "reads like a number of permits; give the limit a name with a letter"
                raise SettingError(problem, "permits", name)
        for number, value in enumerate(self.sweep.permits):
            if isinstance(value, str) and limit_named(self.permits, value) is None:
                known = sorted({*self.permits, *LIMIT_KINDS.names()})
                problem = (
                    f"unknown limit{nearest(value, known)}; use a number, or one of "
                    f"{', '.join(known)}, or describe it in [permits.NAME] with its kind"
                )
                raise SettingError(problem, "sweep", "permits", number, value=value)

    def _check_wire(self) -> None:
        where, value = ("endpoint", "client"), self.endpoint.client
        if self.is_virtual:
            problem = "sends requests in real time only; remove it, or use endpoint.time = 'real'"
            raise SettingError(problem, *where, value=value)
        for mode in self.sweep.mode:
            if not in_event_loop(mode):
                problem = (
                    f"has no mode {mode!r}; use the modes 'async' and 'serial', or client = "
                    "'openai'"
                )
                raise SettingError(problem, *where, value=value)

    def _check_process(self) -> None:
        kind = self.workflow.kind
        if self.is_virtual:
            raise SettingError(
                f"has no workflow of the kind {kind!r}, which runs in real time; use "
                "'real', with time_scale for a faster simulation",
                "endpoint",
                "time",
                value="virtual",
            )
        for number, mode in enumerate(self.sweep.mode):
            if not in_event_loop(mode):
                raise SettingError(
                    f"has no workflow of the kind {kind!r}, because its gateway needs an event "
                    "loop; use 'async' and 'serial'",
                    "sweep",
                    "mode",
                    number,
                    value=mode,
                )
        if self.endpoint.client == "wire":
            raise SettingError(
                f"has no workflow of the kind {kind!r}; remove it, or use 'openai'",
                "endpoint",
                "client",
                value="wire",
            )

    def _check_several_clients(self) -> None:
        if self.question is not None and self.question not in MEASURING:
            problem = "no setting is recommended among several clients; use one client, or 'client'"
            raise SettingError(problem, "question", value=self.question)
        if self.sweep.repeats == "auto":
            raise SettingError(
                "no setting is recommended among several clients, so a tune or repeats = 'auto' "
                "has no end; use one client, or a number of repeats",
                "sweep",
                CLIENT_KEY,
                value=list(self.sweep.settings[CLIENT_KEY]),
            )

    def _check_summary(self) -> None:
        problem = None
        if not self.is_virtual:
            problem = (
                "the records of real time cannot be made again; use 'full', or "
                "endpoint.time = 'virtual'"
            )
        elif self.transcripts:
            problem = "keeps no transcripts; use 'full', or transcripts = false"
        if problem is not None:
            raise SettingError(problem, "records", value=self.records)

    @property
    def plan(self) -> WorkflowPlan:
        """The program of each workflow of a run, with its settings."""
        kind, section, timeout = WORKFLOWS.of(self.workflow), self.workflow, self.timeouts.workflow
        templates = {
            key: template._replace(text=self.prompts.get(key) or template.text)
            for key, template in kind.templates.items()
        }
        limits, json_mode = section.max_tokens, self.endpoint.facts.json_mode
        phases = tuple(
            msgspec.structs.replace(
                info, max_tokens=limits[info.setting], json=info.json and json_mode
            )
            for info in kind.phases(section)
        )
        limit = None if timeout is None else round(timeout * self.time_scale * SECOND)
        budget = self.budget
        needs_limit = budget.tokens is not None or budget.usd is not None
        return WorkflowPlan(
            kind, section, templates, phases, limit, json_mode, self.time_scale, needs_limit
        )

    @property
    def layout(self) -> Layout:
        """The tree of the calls of a workflow with the longest topic."""
        return self.plan.layout(max(self.workflow.topics, key=len))

    @property
    def layouts(self) -> list[tuple[Layout, int]]:
        """The trees of the calls of the workflows of a trial, each with the number of workflows."""
        workflows, topics = self.load.planned, self.workflow.topics
        if not self.workflow.has_own_layouts:
            return [(self.layout, workflows)]
        whole, rest = divmod(workflows, len(topics))
        counts = [whole + (number < rest) for number in range(len(topics))]
        plan, pairs = self.plan, zip(topics, counts, strict=True)
        return [(plan.layout(topic), count) for topic, count in pairs if count]

    @property
    def price(self) -> Price | None:
        """The price of tokens; None if neither the scenario nor the price list has it."""
        return self.endpoint.facts.price

    @property
    def time_scale(self) -> float:
        """The real seconds in one scenario second."""
        return self.endpoint.facts.time_scale

    @property
    def is_virtual(self) -> bool:
        """Whether a run is simulated in virtual time."""
        simulation = self.endpoint.facts.simulation
        return simulation is not None and simulation.virtual

    def limit(self, name: str) -> LimitSection:
        """The limit that adapts with this name."""
        found = limit_named(self.permits, name)
        assert found is not None, "the scenario has been checked"
        return found

    def most_permits(self, permits: int | str) -> int:
        """The most permits in use with a value of `sweep.permits`."""
        return permits if isinstance(permits, int) else self.limit(permits).max

    @property
    def permit_counts(self) -> tuple[int, ...]:
        """The most permits in use with each value of `sweep.permits`."""
        return tuple(map(self.most_permits, self.sweep.permits))

    def policy(self, name: str) -> PolicyParts:
        """Return the parts of the policy with this name in the scenario."""
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
        resolved["permits"] = {
            name: self.limit(name).model_dump(mode="json")
            for name in self.sweep.permits
            if isinstance(name, str)
        }
        return resolved


def option_name(key: str, number: int) -> str:
    """Return how messages name an option of a swept key."""
    return f"sweep.{json.dumps(key)}[{number}]"


def cell_scenario(scenario: Scenario, cell: CellInfo) -> Scenario:
    """Return the scenario of one cell: the run's, with the cell's values of the swept keys."""
    if not cell.settings:
        return scenario
    values = with_settings(scenario.model_dump(mode="json"), cell.settings)
    return Scenario.model_validate(values)


def swept_options(scenario: Scenario, cell: CellInfo, section: str) -> list[str]:
    """Return `sweep."endpoint.model"[1] = 'b'` for each setting of a cell in one section."""
    return [
        f"{option_name(key, scenario.sweep.settings[key].index(value))} = {value!r}"
        for key, value in cell.settings.items()
        if split_key(key)[0] == section
    ]
