"""Servers that report wrong token counts: by the server's own count, no budget is exceeded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.bench.modes import MODES
from harness.bench.spending import TokenMeter, limits_of
from harness.engine.budget_gate import BudgetExhaustedError, Gate
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Record
from tests.bench.test_modes import PATIENT
from tests.bench.test_spending import LIMITED, made
from tests.transports.attempts import ANCHOR, make_target
from tests.transports.bodies import DONE, EVENT_STREAM, chunk, usage_chunk
from tests.wire.clients import now
from tests.wire.fault_server import END, FaultServer, Seen, Step, Write, framed, head

MOST = 300
"""The tokens that each request may write, and that the server always writes."""
PROMPT = 5
BUDGET = 4000

LIES: Mapping[str, Sequence[Mapping[str, Any] | list[Any] | str]] = {
    "negative": [{"prompt_tokens": -1, "completion_tokens": -5}],
    "zero": [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}],
    "zero later": [
        {"prompt_tokens": PROMPT, "completion_tokens": MOST},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ],
    "reasoning beside the output": [
        {
            "prompt_tokens": PROMPT, "completion_tokens": 2, "total_tokens": PROMPT + MOST,
            "completion_tokens_details": {"reasoning_tokens": MOST - 2},
        }
    ],
    "hidden in the total": [
        {"prompt_tokens": PROMPT, "completion_tokens": 2, "total_tokens": PROMPT + MOST}
    ],
    "reasoning beside, without a total": [
        {
            "prompt_tokens": PROMPT, "completion_tokens": 2,
            "completion_tokens_details": {"reasoning_tokens": MOST},
        }
    ],
    "far too few": [{"prompt_tokens": PROMPT, "completion_tokens": 1}],
    "an overflow": [{"prompt_tokens": PROMPT, "completion_tokens": 2**32 - 5}],
    "a list": [[]],
    "text": ["12"],
    "nothing": [],
}  # fmt: skip
"""The usage objects of each response. Each response has `MOST` tokens, a word each."""


def answer(usages: Sequence[Any]) -> Sequence[Step]:
    chunks = [chunk(content="word " * MOST), chunk("stop"), *map(usage_chunk, usages), DONE]
    said = head(200, ("content-type", EVENT_STREAM)) + b"".join(map(framed, chunks)) + END
    return [Write(said)]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("lie", LIES)
def test_no_lie_makes_a_run_exceed_its_budget(mode: str, lie: str) -> None:
    counted = 0

    def served(seen: Seen) -> Sequence[Step]:
        nonlocal counted
        assert json.loads(seen.body)["max_tokens"] == MOST
        counted += PROMPT + MOST
        return answer(LIES[lie])

    def program() -> Program[None]:
        request = Request((Message("user", "why do the tides come?"),), max_tokens=MOST)
        for number in itertools.count():
            key = CallKey("cell", 0, number, 0, "fan_out", None, 1)
            yield from complete(PATIENT, key, request, now())

    scenario = made(workflow=LIMITED, budget={"tokens": BUDGET})
    gate = Gate(limits_of(scenario), TokenMeter(scenario, ANCHOR), now)
    records: list[Record] = []
    with FaultServer(served) as server, pytest.raises(BudgetExhaustedError):
        MODES[mode](program(), make_target(server.base_url), 1, now, records.append, gate)
    attempts = [record for record in records if isinstance(record, Attempt)]
    assert 0 < counted <= BUDGET
    assert counted <= gate.ledger.spent.tokens <= BUDGET
    assert all(("usage" in one.anomalies) == (lie != "nothing") for one in attempts)
