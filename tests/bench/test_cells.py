"""From a scenario to cells, their order, and the terms of their calls."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.bench import cells
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.toml_text import toml_value
from harness.policies.no_retry import NoRetryRule
from harness.policies.stack import Stack
from harness.records.clock import SECOND
from harness.records.keys import CallKey
from harness.records.schema import CellInfo
from tests.bench.examples import EXAMPLE, HEAD, LIVE
from tests.engine.scripted import Says, Script, World

MS = SECOND // 1000


def scenario(text: str = EXAMPLE, **sections: dict[str, Any]) -> Scenario:
    overrides = [
        f"{section}.{key}={toml_value(value)}"
        for section, keys in sections.items()
        for key, value in keys.items()
    ]
    return parse_scenario(text, "file.toml", overrides)


def cell(**changes: Any) -> CellInfo:
    plain: dict[str, Any] = {
        "id": "c",
        "mode": "async",
        "permits": 2,
        "retry": "none",
        "permit_scope": "attempt",
    }
    return CellInfo(**(plain | changes))


def test_serial_stands_once_as_sync_does() -> None:
    swept = cells.expand(scenario(sweep={"mode": ["serial", "async"], "permits": [2, 8]}))
    assert [(info.mode, info.permits) for info in swept if info.retry == "none"] == [
        ("serial", 1), ("async", 2), ("async", 8),
    ]  # fmt: skip


def test_the_swept_settings_multiply_and_sync_stands_once_for_each_of_the_others() -> None:
    swept = cells.expand(scenario(sweep={"permit_scope": ["attempt", "call"]}))
    assert [info.id for info in swept] == [
        "sync_1_none_attempt",
        "sync_1_none_call",
        "sync_1_full-jitter_attempt",
        "sync_1_full-jitter_call",
        "async_2_none_attempt",
        "async_2_none_call",
        "async_2_full-jitter_attempt",
        "async_2_full-jitter_call",
        "async_8_none_attempt",
        "async_8_none_call",
        "async_8_full-jitter_attempt",
        "async_8_full-jitter_call",
    ]
    assert swept[0] == CellInfo(
        id="sync_1_none_attempt", mode="sync", permits=1, retry="none", permit_scope="attempt"
    )


modes = st.lists(st.sampled_from(["sync", "threads", "async"]), min_size=1, unique=True)
permits = st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", fullmatch=True)
policies = st.lists(names, min_size=1, max_size=3, unique_by=str.casefold)
scopes = st.lists(st.sampled_from(["attempt", "call"]), min_size=1, unique=True)


@given(modes, permits, policies, scopes)
def test_every_cell_has_an_id_of_its_own_that_a_file_can_be_named_after(
    mode: list[str], permits: list[int], retry: list[str], scope: list[str]
) -> None:
    text = HEAD + "".join(f'[retry."{name}"]\nkind = "none"\n' for name in retry)
    swept = cells.expand(
        scenario(
            text, sweep={"mode": mode, "permits": permits, "retry": retry, "permit_scope": scope}
        )
    )
    assert len({info.id.casefold() for info in swept}) == len(swept)
    others = len(retry) * len(scope)
    concurrent = len(set(mode) - {"sync"})
    assert len(swept) == others * (concurrent * len(permits) + ("sync" in mode))
    for info in swept:
        parts = (info.mode, str(info.permits), info.retry, info.permit_scope)
        assert tuple(info.id.split("_")) == parts
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", info.id)
        assert len(info.id) < 100
        assert info.mode != "sync" or info.permits == 1


@given(st.integers(1, 6), st.integers(0, 2**64), st.integers(1, 9))
def test_each_repeat_is_a_permutation_of_all_cells_that_depends_on_the_seed_alone(
    repeats: int, seed: int, count: int
) -> None:
    swept = tuple(cell(id=str(number)) for number in range(count))
    blocks = cells.order(swept, repeats, seed)
    assert len(blocks) == repeats
    for block in blocks:
        assert sorted(info.id for info in block) == [info.id for info in swept]
    assert cells.order(swept, repeats, seed) == blocks
    assert cells.order(swept, repeats + 1, seed)[:repeats] == blocks


@given(st.integers(1, 9), st.integers(0, 2**64))
def test_each_cell_has_each_place_and_follows_each_other_cell_equally_often(
    count: int, seed: int
) -> None:
    swept = tuple(cell(id=str(number)) for number in range(count))
    times = 1 if count % 2 == 0 else 2
    blocks = cells.order(swept, count * times, seed)
    places = Counter((at, info.id) for block in blocks for at, info in enumerate(block))
    assert set(places.values()) == {times}
    assert len(places) == count**2
    pairs = Counter((one.id, next_one.id) for block in blocks for one, next_one in pairwise(block))
    assert set(pairs.values()) <= {times}
    assert len(pairs) == count * (count - 1)


def test_seeds_and_repeats_give_different_orders() -> None:
    swept = tuple(cell(id=str(number)) for number in range(8))
    orders = {
        tuple(one.id for one in block) for seed in range(5) for block in cells.order(swept, 4, seed)
    }
    assert len(orders) == 20


def test_a_random_source_is_the_same_today_as_when_the_records_were_written() -> None:
    assert cells.source(7, "order", 0).random() == 0.7732496720784141
    assert cells.source(7, "order", 0).random() != cells.source(8, "order", 0).random()
    assert cells.source(7, "order", 0).random() != cells.source(7, "order", 1).random()


def test_each_call_draws_its_jitter_from_a_source_of_its_own() -> None:
    random_for = cells.terms(scenario(), cell()).random_for
    plain = CallKey("c", 0, 0, 0, "fan_out", 0, 1)
    others = [
        plain,
        plain._replace(cell="d"),
        plain._replace(repeat=1),
        plain._replace(workflow=1),
        plain._replace(execution=1),
        plain._replace(phase="synthesize"),
        plain._replace(branch=1),
        plain._replace(branch=None),
        plain._replace(call=2),
    ]
    draws = [random_for(key).random() for key in others]
    assert len(set(draws)) == len(others)
    assert [random_for(key).random() for key in others] == draws
    other_seed = cells.terms(scenario(EXAMPLE.replace("seed = 7", "seed = 8")), cell())
    assert other_seed.random_for(plain).random() != draws[0]


seconds = st.floats(0.001, 80_000)


@given(scale=st.floats(0.001, 1), call=seconds, first=st.none() | seconds, idle=seconds)
def test_timeouts_become_nanoseconds_scaled_once(
    scale: float, call: float, first: float | None, idle: float
) -> None:
    timeouts = {"call": call, "idle": idle} | ({} if first is None else {"first_token": first})
    read = scenario(HEAD, endpoint={"time_scale": scale}, timeouts=timeouts)
    limits = cells.terms(read, cell()).limits
    assert limits.call == round(call * scale * SECOND)
    assert limits.idle == round(idle * scale * SECOND)
    assert limits.first_token == (limits.call if first is None else round(first * scale * SECOND))


def test_a_live_endpoint_runs_in_seconds_as_they_are_written() -> None:
    read = scenario(LIVE, timeouts={"connect": "200ms", "call": "3s"})
    limits = cells.terms(read, cell()).limits
    assert (limits.connect, limits.call) == (200 * MS, 3 * SECOND)


def test_connecting_to_a_simulator_has_a_second_whatever_the_scale() -> None:
    """It is this machine that connects, and it is no faster for a smaller scale."""
    read = scenario(HEAD, endpoint={"time_scale": 0.01}, timeouts={"connect": "5s"})
    assert cells.terms(read, cell()).limits.connect == SECOND
    read = scenario(HEAD, endpoint={"time_scale": 0.5}, timeouts={"connect": "5s"})
    assert cells.terms(read, cell()).limits.connect == 2500 * MS


def test_the_terms_follow_the_cell_and_the_scenario() -> None:
    read = scenario(EXAMPLE.replace("seed = 7", "seed = 7\ntranscripts = true"))
    held = cells.terms(read, cell(permit_scope="call", retry="full-jitter"))
    assert held.hold_permit
    assert held.policy == scenario().policy("full-jitter").build(0.02, streamed=True)
    assert held.keep_transcripts
    released = cells.terms(scenario(), cell(permit_scope="attempt"))
    assert not released.hold_permit
    assert released.policy == Stack([], NoRetryRule())
    assert not released.keep_transcripts


# The workflows of a trial, run by a script.


def planned(count: int) -> Script:
    questions = [f"What is part {number}?" for number in range(count)]
    answer = json.dumps({"sub_questions": questions})
    return lambda asked: Says(answer=answer if asked.key.phase == "decompose" else "found")


def play(read: Scenario, *, repeat: int = 0, run_id: str = "r") -> World:
    world = World(planned(read.as_dict()["workflow"]["sub_questions"]))
    for start in cells.starts(read, cell(), repeat, run_id):
        world.run(start(world.now))
    return world


def test_workflows_take_the_topics_in_turn_and_have_keys_of_their_own() -> None:
    world = play(scenario(load={"workflows": 5}), repeat=2)
    assert [
        (done.cell, done.repeat, done.workflow, done.execution, done.topic)
        for done in world.workflows
    ] == [
        ("c", 2, 0, 0, "ocean tides"),
        ("c", 2, 1, 0, "battery recycling"),
        ("c", 2, 2, 0, "ocean tides"),
        ("c", 2, 3, 0, "battery recycling"),
        ("c", 2, 4, 0, "ocean tides"),
    ]
    assert {done.outcome for done in world.workflows} == {"ok"}


def test_a_workflow_is_asked_for_what_the_scenario_says() -> None:
    read = scenario(
        load={"workflows": 1},
        workflow={"sub_questions": 2, "carry_reasoning": True},
        timeouts={"workflow": "100s"},
    )
    world = play(read)
    assert [sent.request.max_tokens for sent in world.sends] == [2000, 4000, 4000, 4000]
    assert "a thought" in world.sends[1].request.messages[1].content
    assert {sent.deadlines.end for sent in world.sends} == {2 * SECOND}, "100 s at scale 0.02"


def test_json_mode_is_asked_for_unless_a_live_endpoint_refuses_it() -> None:
    assert play(scenario(HEAD)).sends[0].request.json_mode
    assert play(scenario(LIVE)).sends[0].request.json_mode
    assert not play(scenario(LIVE, endpoint={"json_mode": False})).sends[0].request.json_mode


def nonces(world: World) -> list[str]:
    first = [sent.request.messages[0].content for sent in world.sends]
    return [text.partition("] ")[0] for text in first if text.startswith("[")]


def test_each_live_workflow_has_a_nonce_so_that_no_prompt_cache_knows_it() -> None:
    live = scenario(LIVE, load={"workflows": 2})
    one, again = nonces(play(live)), nonces(play(live))
    assert len(one) == 2 * 6, "every prompt has one"
    assert len(set(one)) == 2, "each workflow has its own"
    assert one == again
    assert not set(one) & set(nonces(play(live, repeat=1)))
    assert not set(one) & set(nonces(play(live, run_id="another")))


def test_no_nonce_stands_where_caching_is_wanted_or_cannot_happen() -> None:
    assert nonces(play(scenario(LIVE, endpoint={"cache": "keep"}))) == []
    assert nonces(play(scenario(HEAD))) == []
    assert nonces(play(scenario(HEAD + '[endpoint]\nkind = "local-llm"\n'))) == []
