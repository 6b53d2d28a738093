"""A circuit breaker that parks, in every mode: an outage costs few attempts and no call."""

from __future__ import annotations

import itertools
from typing import Any

from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request, Send, fan_out
from harness.policies.breaker import BreakerLayer, BreakerRule
from harness.policies.fixed import FixedRule
from harness.policies.stack import Stack
from harness.records.failures import OK
from harness.records.keys import CallKey
from harness.records.schema import Tokens
from tests.engine.scripted import CALL, Half, Says
from tests.engine.worlds import EVERY_WAY, MS, PATIENCE, SIDE_BY_SIDE, Way, World, in_turn

AGES = PATIENCE * 1000 * MS
CALLS = 20
REQUEST = Request((Message("user", "why?"),))
UNAVAILABLE = Says("unavailable", status=503, tokens=Tokens())


def calls(breaker: BreakerRule, *, hold: bool) -> Program[Any]:
    policy = Stack([BreakerLayer(breaker, "b")], FixedRule(attempts=2, delay=1))
    terms = CallTerms(policy, CallTimeouts(AGES, AGES, AGES, AGES), hold, lambda key: Half())
    keys = [CallKey(*CALL[:5], branch, 1) for branch in range(CALLS)]
    return fan_out([complete(terms, key, REQUEST, 0) for key in keys])


def down_for(attempts: int) -> Any:
    """Let the first so many attempts to come back fail."""
    back = itertools.count()

    def says(_: Send) -> Says:
        return UNAVAILABLE if next(back) < attempts else Says()

    return says


@EVERY_WAY
def test_an_outage_loses_no_call_and_costs_a_probe_after_each_pause(run: Way) -> None:
    """Twelve attempts fail, two for each call's own policy; the breaker takes all but the first."""
    for hold in (False, True):
        world = World(1 if run is in_turn else 6, says=down_for(12))
        run(calls(BreakerRule(failures=2, many=9, last=9, pause=MS, cap=2 * MS), hold=hold), world)
        assert [call.outcome for call in world.calls] == [OK] * CALLS
        assert len(world.attempts) == CALLS + 12
        taken = [one for one in world.attempts if one.decision and one.decision.source == "breaker"]
        assert len(taken) == 11
        parked = [one for call in world.calls for one in call.backoffs if one.source == "breaker"]
        assert parked
        assert all(one.end >= one.start for one in parked)
        assert all(one.permit_wait >= 0 and one.ready <= one.permit_requested for one in taken)


@SIDE_BY_SIDE
def test_while_it_is_open_one_attempt_at_a_time_goes_out(run: Way) -> None:
    world = World(6)
    out: list[int] = []
    down = down_for(12)

    def says(effect: Send) -> Says:
        said: Says = down(effect)
        out.append(world.out)
        return said

    world.says = says
    run(calls(BreakerRule(failures=1, many=9, last=9, pause=MS, cap=2 * MS), hold=False), world)
    # The first failure opens it; what was out then comes back, and after that the probes.
    assert out[:12][-6:] == [0] * 6
    assert len(world.attempts) == CALLS + 12
