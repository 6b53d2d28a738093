"""Asks a server how long its context is, and whether its answers have sub-questions.

`harness init` writes a scenario that fits them. A server refuses a request whose `max_tokens` are
more than the context. A server for load tests answers every prompt with any text, and a small model
may write no list: no workflow of a scenario that reads the questions from the answers would
succeed.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from harness.bench import preflight
from harness.bench.scenario import Scenario, ScenarioTimeouts
from harness.engine.effects import Request
from harness.records.errors import InputError, PreflightError
from harness.records.failures import OK
from harness.workflows.prompts import Prompts
from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions
from harness.workflows.research.prompts import TEMPLATES

LONGEST_WAIT = 30.0
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


def learn(scenario: Scenario, topic: str, count: int) -> Learned:
    """Ask the endpoint of a new scenario for its models, and for `count` questions about `topic`.

    An endpoint that may cost money, or whose key is missing, is not asked.
    """
    facts = scenario.endpoint.facts
    if facts.may_cost:
        return NOTHING
    try:
        environment = preflight.environment_for([scenario], os.environ)
        secrets = preflight.secrets(scenario, environment)
    except (InputError, PreflightError):
        return NOTHING
    from harness.bench.model_list import list_models  # these imports are slow
    from harness.bench.single_call import send_one

    url = getattr(scenario.endpoint, "base_url", "")
    known = list_models(url, facts.request, secrets.api_key).models or {}
    context = known.get(scenario.endpoint.model)
    most = most_tokens(scenario.workflow.max_tokens["decompose"] or 0, context, 4)
    messages = Prompts(TEMPLATES).messages("decompose", topic=topic, count=str(count))
    asking = scenario.model_copy(update={"timeouts": ScenarioTimeouts(call=LONGEST_WAIT)})
    reply = send_one(asking, secrets, Request(messages, most, json_mode=True), _show_nothing).reply
    if reply.outcome not in _ANSWERED:
        return Learned(context)
    try:
        parse_sub_questions(reply.answer, count)
    except DecompositionError:
        return Learned(context, lacks_questions=True)
    return Learned(context)


def _show_nothing(_: object) -> None:
    pass


def most_tokens(wanted: int, context: int | None, parts: int) -> int:
    """Return `wanted`, or one of `parts` of the context if that is less."""
    return wanted if context is None else max(1, min(wanted, context // parts))
