"""Asks a server how long its context is, and whether its answers have sub-questions.

`harness init` writes a scenario that fits them. A server refuses a request whose `max_tokens` are
more than the context.
A server for load tests answers every prompt with any text, and a small model may write no list. No
workflow of a scenario that reads the questions from the answers would succeed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

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


_ANSWERED = (OK, "truncated")
"""Outcomes with a text; one without questions that is cut off would be so in a run, too."""


class Learned(NamedTuple):
    """What a new scenario has to take into account.

    `context`: the tokens that a prompt and its answer may have together; None if the server does
    not say. `lacks_questions`: no sub-questions can be read from its answer.
    """

    context: int | None = None
    lacks_questions: bool = False


NOTHING = Learned()


def learn(scenario: Scenario, base_url: str, topic: str, count: int) -> Learned:
    """Ask the endpoint of a new scenario for its models, and for `count` questions about `topic`.

    An endpoint that may cost money, or whose key is missing, is not asked.
    """
    facts = scenario.endpoint.facts
    if facts.may_cost:
        return NOTHING
    try:
        key = preflight.secrets(scenario, _environment(facts.key_variable)).api_key
    except (InputError, PreflightError):
        return NOTHING
    context = _context(base_url, scenario.endpoint.model, key)
    most = most_tokens(scenario.workflow.max_tokens["decompose"] or 0, context, 4)
    reply = _ask(scenario, base_url, key, most, topic, count)
    if reply.outcome not in _ANSWERED:
        return Learned(context)
    try:
        parse_sub_questions(reply.answer, count)
    except DecompositionError:
        return Learned(context, lacks_questions=True)
    return Learned(context)


def most_tokens(wanted: int, context: int | None, parts: int) -> int:
    """Return `wanted`, or one of `parts` of the context if that is less."""
    return wanted if context is None else max(1, min(wanted, context // parts))


def _context(base_url: str, model: str, key: str) -> int | None:
    """Return the length that the server's list of models gives, as vLLM and others do."""
    import httpx2

    try:
        with httpx2.Client(
            headers={"authorization": f"Bearer {key}"}, timeout=LONGEST_WAIT
        ) as http:
            listed = http.get(f"{base_url.rstrip('/')}/models").json()["data"]
        [length] = [one["max_model_len"] for one in listed if one["id"] == model]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return None
    return length if isinstance(length, int) and length > 0 else None


def _environment(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    return dict(with_file(os.environ, Path(".env"), variable))


def _ask(scenario: Scenario, base_url: str, key: str, most: int, topic: str, count: int) -> Reply:
    from harness.transports.sync_transport import SyncClient  # its import is slow

    anchor = take_anchor()
    now = monotonic_since(anchor)
    endpoint = scenario.endpoint
    target = Target(
        base_url=base_url, api_key=key, model=endpoint.model, stream=endpoint.stream,
        extra_body={}, run_id="init", anchor=anchor, simulated=False,
    )  # fmt: skip
    messages = Prompts(TEMPLATES).messages("decompose", topic=topic, count=str(count))
    request = Request(messages, most, json_mode=True)
    wait = LONGEST_WAIT * SECOND
    deadlines = Deadlines(wait, wait, wait, now() + wait, "call_timeout")
    with SyncClient(target, now) as client:
        return client.send(
            Send(CallKey("init", 0, 0, 0, "decompose", None, 1), 1, request, deadlines)
        )
