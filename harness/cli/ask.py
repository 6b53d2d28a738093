"""`harness ask`: one streamed call, and what it took."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from harness.bench import preflight
from harness.bench.own_endpoint import OwnEndpoint, drop_former_endpoint
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario
from harness.bench.single_call import Answered, TextPart, question_request, send_one
from harness.bench.spending import TokenMeter, why_failed
from harness.cli.main import EXIT_INTERRUPTED
from harness.cli.run import own_endpoint
from harness.config import shipped_scenarios
from harness.engine.effects import Reply
from harness.engine.ledger import NANO
from harness.records.anomalies import ANOMALIES
from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.records.failures import CANCELLED, OK
from harness.report.console import Output, printable_lines
from harness.report.line_wrap import wrapped

EXIT_FAILED = 1
MOST_QUESTION = 1_000_000
"""Characters of a question that are read from a pipe."""


def ask(options: argparse.Namespace) -> int:
    """Send a question, show the answer as it arrives, and then what it took."""
    scenario = _scenario(options)
    question = _question(options)
    secrets = preflight.secrets(scenario, preflight.environment_for([scenario], os.environ))
    preflight.environment_of(scenario)
    shown = _Shown(silent=options.json)
    answered = send_one(scenario, secrets, question_request(scenario, question), shown.add)
    shown.end()
    if options.json:
        _print_json(scenario, answered)
    else:
        facts = "; ".join(_facts(scenario, answered))
        print(*wrapped(facts), sep="\n", file=sys.stderr)
    outcome = answered.reply.outcome
    if outcome == OK:
        return 0
    if outcome == CANCELLED:
        return EXIT_INTERRUPTED
    failed = why_failed(scenario, answered.base_url, answered.reply)
    print(*wrapped(f"harness: {failed}"), sep="\n", file=sys.stderr)
    return EXIT_FAILED


def _scenario(options: argparse.Namespace) -> Scenario:
    own = own_endpoint(options)
    if own is not None and options.simulated:
        raise InputError("--simulated: remove it, or --endpoint and --model")
    file = shipped_scenarios.find(options.scenario)
    settings = own.settings() if own is not None else []

    def change(values: dict[str, Any]) -> None:
        if own is not None:
            drop_former_endpoint(values, own, settings)
        elif options.simulated:
            drop_former_endpoint(values, OwnEndpoint("http://127.0.0.1", "any", None), ())
            values["endpoint"] = {"kind": "simulated"}

    scenario = load_scenario(file, settings, change)
    if scenario.is_virtual:
        raise InputError(
            f"{options.scenario}: runs in virtual time, so no request is sent; "
            "ask with --simulated, or with --endpoint and --model"
        )
    return scenario


def _question(options: argparse.Namespace) -> str:
    text = options.question
    if text is None:
        if sys.stdin.isatty():
            raise InputError('ask: no question; write harness ask "question", or pipe it in')
        text = sys.stdin.read(MOST_QUESTION + 1)
    if len(text) > MOST_QUESTION:
        raise InputError(
            f"ask: the question has more than {MOST_QUESTION:,} characters; shorten it"
        )
    if not text.strip():
        raise InputError('ask: the question is empty; write harness ask "question"')
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InputError("ask: the question is not valid UTF-8; write it with other characters")
    return str(text)


class _Shown:
    """Writes the texts as they arrive: reasoning, dimmed, to standard error; the answer to output.

    So a pipe receives the answer alone.
    """

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._out, self._err = Output(), Console(stderr=True)
        self._last: TextPart | None = None

    def add(self, part: TextPart) -> None:
        """Write a part."""
        if self._silent:
            return
        last = self._last
        if last is not None and last.is_reasoning and not part.is_reasoning:
            self._write(TextPart(True, "\n" if last.text.endswith("\n") else "\n\n"))
        self._write(part)
        self._last = part

    def end(self) -> None:
        """End the last line."""
        if self._last is not None:
            self._write(self._last._replace(text="\n"))

    def _write(self, part: TextPart) -> None:
        console, style = (self._err, "dim") if part.is_reasoning else (self._out, "")
        text = Text(printable_lines(part.text), style=style)
        console.print(text, end="", soft_wrap=True, markup=False, highlight=False)
        console.file.flush()


def _facts(scenario: Scenario, answered: Answered) -> Iterable[str]:
    """Yield the outcome, times, tokens, cost and endpoint of an answer."""
    reply = answered.reply
    yield f"Outcome: {'interrupted' if reply.outcome == CANCELLED else reply.outcome}"
    first, seconds = _first_text(reply), _seconds(reply)
    if first is not None:
        yield f"first text after {first:.3g} s"
    if seconds is not None:
        yield f"{seconds:.3g} s in all"
    yield from _token_facts(reply)
    facts, usd = scenario.endpoint.facts, _usd(scenario, answered)
    if usd is not None:
        yield f"{usd:.6f} USD"
    elif facts.may_cost:
        yield facts.no_price
    yield from (
        f"the server deviates from the API: {name} ({ANOMALIES[name]})" for name in reply.anomalies
    )
    yield facts.heading
    if reply.marked_simulated and facts.simulation is None:
        yield "the server says that its answers are SIMULATED"


def _token_facts(reply: Reply) -> Iterable[str]:
    tokens = reply.tokens
    if tokens.output is None:
        yield "the server reported no usage" if reply.chunks else "no text"
        return
    of_which = f" ({tokens.reasoning:,} reasoning)" if tokens.reasoning else ""
    read = "" if tokens.input is None else f"{tokens.input:,} input and "
    speed = _speed(reply)
    rate = "" if speed is None else f", {speed:.3g} output tokens/s"
    yield f"{read}{tokens.output:,} output tokens{of_which}{rate}"


def _first_text(reply: Reply) -> float | None:
    """Return the seconds from sending to the first text."""
    texts = [at for at in (reply.first_reasoning, reply.first_answer) if at is not None]
    if not texts or reply.sent is None:
        return None
    return (min(texts) - reply.sent) / SECOND


def _seconds(reply: Reply) -> float | None:
    """Return the seconds from sending to the end."""
    return None if reply.sent is None else (reply.done - reply.sent) / SECOND


def _speed(reply: Reply) -> float | None:
    """Return the output tokens a second after the first text; None without a stream."""
    first, seconds, output = _first_text(reply), _seconds(reply), reply.tokens.output
    if first is None or seconds is None or output is None or reply.chunks < 2:
        return None
    assert reply.last_token is not None, "there was a text"
    assert reply.sent is not None, "it was sent"
    streamed = (reply.last_token - reply.sent) / SECOND - first
    return output / streamed if streamed > 0 else None


def _usd(scenario: Scenario, answered: Answered) -> float | None:
    """Return the cost; None without a price."""
    if scenario.price is None:
        return None
    meter = TokenMeter(scenario, answered.anchor)
    used = meter.used(meter.worst(answered.sent), answered.reply)
    return used.nano_usd / NANO


def _print_json(scenario: Scenario, answered: Answered) -> None:
    import msgspec

    reply = answered.reply
    said = {
        "outcome": reply.outcome,
        "detail": reply.detail,
        "status": reply.status,
        "reasoning": reply.reasoning,
        "answer": reply.answer,
        "first_text_s": _first_text(reply),
        "duration_s": _seconds(reply),
        "output_tokens_per_s": _speed(reply),
        "tokens": reply.tokens,
        "cost_usd": _usd(scenario, answered),
        "finish_reason": reply.finish_reason,
        "anomalies": reply.anomalies,
        "model": scenario.endpoint.model,
        "response_model": reply.response_model,
        "base_url": answered.base_url,
        "simulated": scenario.endpoint.facts.simulation is not None or reply.marked_simulated,
    }
    print(msgspec.json.format(msgspec.json.encode(said).decode(), indent=2))
