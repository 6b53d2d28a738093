"""`kind = "gateway"`: each request that a gateway gets is a workflow of one call.

`harness gateway` runs it: it has no programs of its own, and serves until it is told to end.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.config.config_base import Several, Text
from harness.engine.attempt import CallTerms
from harness.engine.budget_gate import BudgetExhaustedError
from harness.engine.call import Completion
from harness.engine.effects import Host, HostedResult, Program, RunHosted
from harness.engine.program_limits import ProgramLimits
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey, WorkflowKey
from harness.records.schema import PhaseInfo
from harness.workflows.context import (
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    failure_text,
)
from harness.workflows.execution import WorkflowPlan, run_workflow
from harness.workflows.layout import Layout, PlannedCall
from harness.workflows.prompts import Prompts, PromptTemplate
from harness.workflows.protocol import WorkflowKind
from harness.workflows.section import WorkflowSection

if TYPE_CHECKING:
    from harness.client.calls import ClientCall

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 5.0
"""Seconds in which the requests in flight can end when the gateway does."""


class GatewaySection(WorkflowSection):
    """The requests that a gateway gets, each a workflow of one call.

    `harness gateway` writes it into the scenario of its run; `harness run` refuses it.

    Example::

        [workflow]
        kind = "gateway"
    """

    kind: Literal["gateway"]
    """The kind of workflow."""
    topics: Several[Text] = ("request",)
    """The first one names the workflows in the records."""
    keep_model: bool = True
    """Leave the model in the requests as the program names it, instead of `endpoint.model`."""

    @property
    def keeps_reasoning(self) -> bool:
        """Whether the program reads the reasoning of answers: it gets what the endpoint sends."""
        return True

    @property
    def is_gateway(self) -> bool:
        """Whether workflows are the requests that a gateway gets."""
        return True

    @property
    def has_open_phases(self) -> bool:
        """Whether there can be phases that are not declared: the paths of requests name them."""
        return True

    @property
    def knows_calls(self) -> bool:
        """Whether the calls of a workflow are known before it runs: their phases are not."""
        return False


class GatewayKind:
    """The workflow of one request. `call`: its program, when there is one."""

    section = GatewaySection
    templates: Mapping[str, PromptTemplate] = {}

    def __init__(self, call: Program[Completion] | None = None, own_retries: int = 0) -> None:
        self._call = call
        self._own_retries = own_retries
        self.completion: Completion | None = None

    def phases(self, section: GatewaySection) -> tuple[PhaseInfo, ...]:
        """Return the phases that have a limit in the section; requests can have others."""
        return tuple(PhaseInfo(name=name, setting=name) for name in section.max_tokens)

    def layout(
        self, section: GatewaySection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return one call; how much it reads is not known."""
        return PlannedCall("call", 0)

    def program(self, context: WorkflowContext[GatewaySection]) -> Program[str]:
        """Make the call of the request. A workflow has no text."""
        assert self._call is not None, "a gateway has got the request"
        context.own_retries = self._own_retries
        self.completion = completion = yield from self._call
        if completion.outcome == CANCELLED:
            raise WorkflowCancelledError("the client closed its connection, or the gateway ended")
        if completion.outcome != OK:
            raise WorkflowFailedError(failure_text("request", completion))
        return ""


GATEWAY: WorkflowKind[GatewaySection] = GatewayKind()


class OpenGateway(NamedTuple):
    """How the gateway of a run is reached.

    `listener`: the socket at which it listens. `token`: the part of its URL that is secret.
    `ready`: takes its URL when it serves. `say`: takes lines about what it does, for the user.
    """

    listener: socket.socket
    token: str
    ready: Callable[[str], None]
    say: Callable[[str], None]


def serve_requests(
    opened: OpenGateway, terms: CallTerms, plan: WorkflowPlan, first: WorkflowKey
) -> Program[None]:
    """Serve until a signal ends it; each request is a workflow, numbered from that of `first`.

    Raises BudgetExhaustedError at the end if the budget has refused a request.
    """
    result: HostedResult = yield RunHosted(
        partial(_serve, opened, terms, plan, first), passes_on=(BudgetExhaustedError,)
    )
    if result.error is not None:
        raise result.error


async def _serve(
    opened: OpenGateway, terms: CallTerms, plan: WorkflowPlan, first: WorkflowKey, host: Host
) -> None:
    # Imported late: the openai package is slow to import.
    from harness.client.gateway import Gateway
    from harness.client.hosted_calls import HostedCalls, HostedTerms, is_own_retry

    numbers = itertools.count(first.workflow)
    topic = plan.section.topics[0]
    assert isinstance(plan.section, GatewaySection), "the scenario is of this kind"

    def next_key(phase: str) -> CallKey:
        return CallKey(*first._replace(workflow=next(numbers)), phase, None, 1)

    def as_workflow(call: ClientCall, ready: int) -> Program[Completion]:
        request = GatewayKind(call.program(ready), int(is_own_retry(call.request)))
        own = plan._replace(kind=request)
        yield from run_workflow(terms, own, WorkflowKey(*call.key[:4]), topic, ready)
        assert request.completion is not None, "the program has ended"
        return request.completion

    calls = HostedCalls(
        host,
        HostedTerms(
            terms=terms,
            end=None,
            next_key=next_key,
            named_phase=lambda: None,
            limits=plan.section.max_tokens,
            keeps_model=plan.section.keep_model,
            allowed=ProgramLimits(None, plan.needs_limit),
            passes_unread=True,
            as_workflow=as_workflow,
        ),
    )
    async with Gateway(calls, opened.listener, opened.token, host.now, opened.say) as gateway:
        with _end_signals() as ended:
            opened.ready(gateway.url)
            await ended.wait()
        if in_flight := gateway.stop():
            what = "request has" if in_flight == 1 else "requests have"
            opened.say(f"{in_flight} {what} {_GRACE:g} s to end; Ctrl-C again cancels at once")
            await gateway.drained(_GRACE)
        if gateway.exhausted is not None:
            raise gateway.exhausted


@contextmanager
def _end_signals() -> Iterator[asyncio.Event]:
    """Yield what is set by the first signal that ends a process; the next one has its usual effect.

    A signal that is ignored, as SIGHUP by nohup, stays ignored.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(ended.set)

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():  # others handle no signals
        for number in _ENDING:
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, end)
    try:
        yield ended
    finally:
        restore()
