"""Asks a server once whether its answers have sub-questions, for `harness init`.

A server for load tests answers every prompt with any text, and a small model may write no list. No
workflow of a scenario that reads the questions from the answers would succeed.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.bench import preflight
from harness.bench.scenario import Scenario
from harness.config.dotenv import with_file
from harness.engine.effects import Deadlines, Reply, Request, Send
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.errors import InputError, PreflightError
from harness.records.failures import OK
from harness.records.keys import CallKey
from harness.transports.target import Target
from harness.workflows.prompts import Prompts
from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions
from harness.workflows.research.prompts import TEMPLATES

LONGEST_WAIT = 30
"""Seconds to wait for the answer."""


def lacks_questions(scenario: Scenario, base_url: str, topic: str, count: int) -> bool:
    """Return whether the endpoint answers, and no sub-questions can be read from its answer.

    An endpoint that may cost money, or whose key is missing, is not asked.
    """
    facts = scenario.endpoint.facts
    if facts.may_cost:
        return False
    try:
        key = preflight.secrets(scenario, _environment(facts.key_variable)).api_key
    except (InputError, PreflightError):
        return False
    reply = _ask(scenario, base_url, key, topic, count)
    if reply.outcome != OK:
        return False
    try:
        parse_sub_questions(reply.answer, count)
    except DecompositionError:
        return True
    return False


def _environment(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    return dict(with_file(os.environ, Path(".env"), variable))


def _ask(scenario: Scenario, base_url: str, key: str, topic: str, count: int) -> Reply:
    from harness.transports.sync_transport import SyncClient  # its import is slow

    anchor = take_anchor()
    now = monotonic_since(anchor)
    endpoint = scenario.endpoint
    target = Target(
        base_url=base_url, api_key=key, model=endpoint.model, stream=endpoint.stream,
        extra_body={}, run_id="init", anchor=anchor, simulated=False,
    )  # fmt: skip
    messages = Prompts(TEMPLATES).messages("decompose", topic=topic, count=str(count))
    request = Request(messages, scenario.workflow.max_tokens["decompose"], json_mode=True)
    wait = LONGEST_WAIT * SECOND
    deadlines = Deadlines(wait, wait, wait, now() + wait, "call_timeout")
    with SyncClient(target, now) as client:
        return client.send(
            Send(CallKey("init", 0, 0, 0, "decompose", None, 1), 1, request, deadlines)
        )
