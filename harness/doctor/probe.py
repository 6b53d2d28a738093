"""Asks the server of a scenario: its models, and two small calls. The checks of its answers."""

from __future__ import annotations

from harness.bench.model_list import list_models
from harness.bench.scenario import Scenario
from harness.bench.single_call import TextPart, send_one
from harness.bench.spending import TokenMeter, why_failed
from harness.config.request_settings import Secrets
from harness.config.tables import nearest
from harness.doctor.findings import NO_PROBE, Examined, Found, Probed, ok, skipped
from harness.engine.effects import Message, Reply, Request
from harness.engine.ledger import NANO, Amount
from harness.records.anomalies import ANOMALIES
from harness.records.clock import take_anchor
from harness.records.failures import OK

MOST_TOKENS = 256
"""The `max_tokens` of a small call."""
_CUT = "truncated"
"""The outcome of an answer that was cut, as those of reasoning models are here."""
_OFF = 5.0
"""Seconds by which a clock is off, beyond what a request takes."""
_TEXT = Request((Message("user", "Answer with one word: what colour is the sky?"),), MOST_TOKENS)
_JSON = Request(
    (Message("user", 'Answer with this JSON object and nothing else: {"colour": "blue"}'),),
    MOST_TOKENS,
    True,
)


def small_calls(scenario: Scenario) -> list[Request]:
    """Return the calls of a probe."""
    return [_TEXT, *([_JSON] if scenario.endpoint.facts.json_mode else [])]


def worst_of_probe(scenario: Scenario) -> Amount:
    """Return the most that the calls of a probe can use."""
    meter = TokenMeter(scenario, take_anchor())
    parts = [meter.worst_of(request) for request in small_calls(scenario)]
    return Amount(*map(sum, zip(*parts, strict=True)))


def over_budget(scenario: Scenario) -> str | None:
    """Return the key of the budget that a probe could exceed; None if there is none."""
    worst, budget = worst_of_probe(scenario), scenario.budget
    usd = None if budget.usd is None else budget.usd * NANO
    for name, limit, most in (
        ("attempts", budget.attempts, worst.attempts),
        ("tokens", budget.tokens, worst.tokens),
        ("usd", usd, worst.nano_usd),
    ):
        if limit is not None and most > limit:
            return f"budget.{name}"
    return None


def probe(scenario: Scenario, secrets: Secrets) -> Probed:
    """Ask the server for its models, and send the small calls until one cannot be answered."""
    facts = scenario.endpoint.facts
    url, models = getattr(scenario.endpoint, "base_url", ""), None
    if not facts.own_server:
        request = facts.request.with_values(dict(secrets.variables))
        models = list_models(url, request, secrets.api_key)
    replies: list[Reply] = []
    if models is None or models.problem is None:
        for request_to_send in small_calls(scenario):
            answered = send_one(scenario, secrets, request_to_send, _show_nothing)
            url = answered.base_url
            replies.append(answered.reply)
            if answered.reply.outcome not in (OK, _CUT):
                break
    text, json = (*replies, None, None)[:2]
    return Probed(url, models, text, json)


def _show_nothing(_: TextPart) -> None:
    pass


def check_connection(examined: Examined) -> Found:
    """Find a server that cannot be reached: DNS, TLS, proxy, port."""
    models = None if examined.probed is None else examined.probed.models
    if examined.probed is None:
        return skipped(NO_PROBE)
    if models is None:
        return skipped("the run starts the server")
    if models.problem is not None:
        return Found(
            "failure", f"{examined.probed.base_url}: {models.problem}",
            "check endpoint.base_url, the network and the proxy",
        )  # fmt: skip
    return ok(f"{examined.probed.base_url} answers")


def check_model(examined: Examined) -> Found:
    """Find a model that the server does not list, and a base URL that lacks /v1."""
    models = None if examined.probed is None else examined.probed.models
    if examined.probed is None:
        return skipped(NO_PROBE)
    if models is None or models.problem is not None:
        return skipped("there is no list of models")
    url = examined.probed.base_url.rstrip("/")
    if models.models is None and models.with_v1 == 200:
        return Found(
            "failure", f"{url}/models is no list of models, but {url}/v1/models is",
            f'base_url = "{url}/v1"',
        )  # fmt: skip
    if models.models is None:
        return skipped(f"the server lists no models (status {models.status})")
    missing = [
        mine.endpoint.model
        for mine in examined.own.values()
        if mine.endpoint.model not in models.models
    ]
    if missing:
        few = ", ".join([*models.models][:5])
        return Found(
            "failure",
            f"the server does not list {missing[0]}{nearest(missing[0], models.models)}",
            f"use one of its models in endpoint.model: {few}",
        )
    return ok(f"the server lists {examined.scenario.endpoint.model}")


def check_stream(examined: Examined) -> Found:
    """Find a server that does not answer, or not as the API says."""
    reply = None if examined.probed is None else examined.probed.text
    if examined.probed is None:
        return skipped(NO_PROBE)
    if reply is None:
        return skipped("no call was sent")
    if reply.outcome not in (OK, _CUT):
        said = why_failed(examined.scenario, examined.probed.base_url, reply)
        return Found("failure", said, "`harness ask` shows the whole answer")
    if reply.anomalies:
        what = "; ".join(f"{name}: {ANOMALIES[name]}" for name in reply.anomalies)
        return Found(
            "warning", f"the answer deviates from the API ({what})",
            "it can be read; endpoint.strict = true makes it a failure",
        )  # fmt: skip
    if examined.scenario.endpoint.stream and reply.chunks < 2 and reply.outcome == OK:
        return Found(
            "warning", "the answer came in one piece, so its first token comes with its last one",
            "check whether a proxy collects the stream",
        )  # fmt: skip
    return ok(f"answers in {reply.chunks} pieces")


def check_usage(examined: Examined) -> Found:
    """Find a server that does not report tokens."""
    reply = None if examined.probed is None else examined.probed.text
    if reply is None or reply.outcome not in (OK, _CUT):
        return skipped(NO_PROBE if examined.probed is None else "no call was answered")
    if reply.tokens.output is None:
        return Found(
            "warning",
            "no token counts that can be right: budgets assume the worst case, and costs are not "
            "known",
            "ask for them: remove stream_options from endpoint.omit, or configure the server",
        )
    return ok(f"{reply.tokens.output} output tokens reported")


def check_json_mode(examined: Examined) -> Found:
    """Find a server that refuses JSON mode."""
    if examined.probed is None:
        return skipped(NO_PROBE)
    if not examined.scenario.endpoint.facts.json_mode:
        return skipped("endpoint.json_mode is false")
    reply = examined.probed.json
    if reply is None:
        return skipped("no call was sent")
    if reply.outcome not in (OK, _CUT):
        said = why_failed(examined.scenario, examined.probed.base_url, reply)
        return Found("failure", said, "endpoint.json_mode = false")
    return ok("accepted")


def check_reasoning(examined: Examined) -> Found:
    """Say where the reasoning arrives; find one that fills the whole answer."""
    reply = None if examined.probed is None else examined.probed.text
    if reply is None or reply.outcome not in (OK, _CUT):
        return skipped(NO_PROBE if examined.probed is None else "no call was answered")
    if reply.outcome == _CUT and not reply.reasoning and not reply.answer:
        return Found(
            "warning", f"{MOST_TOKENS} tokens and no text: the server hides its reasoning",
            "give workflow.max_tokens room for it",
        )  # fmt: skip
    return ok("apart from the answer" if reply.reasoning else "none in this answer")


def check_clock(examined: Examined) -> Found:
    """Find a clock that is off."""
    models = None if examined.probed is None else examined.probed.models
    if models is None or models.clock_offset is None:
        return skipped(NO_PROBE if examined.probed is None else "the server gives no date")
    offset = models.clock_offset
    if abs(offset) > _OFF:
        way = "behind" if offset > 0 else "ahead of"
        return Found(
            "warning",
            f"this machine's clock is {abs(offset):.0f} s {way} the server's: dates in "
            "Retry-After, traces and peak prices are off by that",
            "synchronise it (timedatectl set-ntp true)",
        )
    return ok("agrees with the server's")
