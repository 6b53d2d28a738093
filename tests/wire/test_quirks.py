"""Every quirk of a server is read alike in sync, threads and async, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from harness.bench.modes import MODES
from harness.config.response_reading import ReadingTerms
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request, fan_out
from harness.records.failures import OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Record, Transcript
from tests.bench.test_modes import PATIENT, open_gate
from tests.transports.attempts import make_target
from tests.wire.clients import now
from tests.wire.fault_server import FaultServer, Seen, Step
from tests.wire.quirks import QUIRKS, Form, Quirk

TERMS = PATIENT._replace(keep_transcripts=True)
BY_NAME = {quirk.behaviour: quirk for quirk in QUIRKS}


def form_of(quirk: Quirk, is_streamed: bool) -> Form | None:
    return quirk.streamed if is_streamed else quirk.whole


def answer(seen: Seen) -> Sequence[Step]:
    asked = json.loads(seen.body)
    form = form_of(BY_NAME[asked["messages"][-1]["content"]], asked["stream"])
    assert form is not None, "only what there is is asked for"
    return form.steps


def play(
    mode: str, is_streamed: bool, strict: bool = False
) -> list[tuple[Form, Attempt, Transcript]]:
    """Ask for each quirk in one mode; return how it is to be read, and what was recorded."""
    asked = [quirk for quirk in QUIRKS if form_of(quirk, is_streamed) is not None]

    def ask(number: int) -> Program[None]:
        key = CallKey("cell", 0, 0, 0, "fan_out", number, 1)
        request = Request((Message("user", asked[number].behaviour),))
        yield from complete(TERMS, key, request, now())

    def program() -> Program[None]:
        yield from fan_out([ask(number) for number in range(len(asked))])

    records: list[Record] = []
    with FaultServer(answer) as server:
        target = make_target(
            server.base_url, stream=is_streamed, reading=ReadingTerms(strict=strict)
        )
        permits = 1 if mode == "sync" else 4
        MODES[mode](program(), target, permits, now, records.append, open_gate())
    found = []
    for number, quirk in enumerate(asked):
        form = form_of(quirk, is_streamed)
        assert form is not None
        mine = [r for r in records if not isinstance(r, Attempt | Transcript) or r.branch == number]
        [attempt] = [record for record in mine if isinstance(record, Attempt)]
        [transcript] = [record for record in mine if isinstance(record, Transcript)]
        found.append((form, attempt, transcript))
    return found


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_a_quirk_comes_to_the_same_in_every_mode(mode: str, is_streamed: bool) -> None:
    for form, attempt, transcript in play(mode, is_streamed):
        name = transcript.messages[-1].content
        read = (attempt.outcome, attempt.anomalies)
        assert read == (form.outcome, form.anomalies), name
        if attempt.outcome == OK:
            texts = (transcript.reasoning, transcript.answer)
            assert texts == (form.reasoning, form.answer), name
            assert attempt.tokens == form.tokens, name
            assert attempt.first_answer is not None, name


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_a_strict_endpoint_lets_no_anomaly_pass(mode: str, is_streamed: bool) -> None:
    for form, attempt, transcript in play(mode, is_streamed, strict=True):
        expected = form.outcome
        if form.outcome == OK and form.anomalies:
            expected = "malformed_stream" if is_streamed else "malformed_json"
            if "missing_done" in form.anomalies:
                expected = "missing_done"
            if "wrong_form" in form.anomalies:
                expected = "malformed_json" if is_streamed else "malformed_stream"
        assert attempt.outcome == expected, transcript.messages[-1].content
        assert attempt.anomalies == form.anomalies
