from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.profiles import load_profile
from harness.simulator.request_parser import ChatRequest, parse_request
from harness.simulator.simulation import Refused, ServedCompletion, Simulation

MS = 1_000_000
SECOND = 1000 * MS


def message(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def ask(text: str = "hello", **more: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True, **more}
    return parse_request(json.dumps(body).encode())


def simulate(
    profile: str = "streams", overrides: Mapping[str, object] = {}, seed: int = 1, scale: float = 1
) -> Simulation:
    return Simulation(load_profile(profile, overrides), seed, scale, "cell")


def arrive(
    simulation: Simulation, now: int, asked: ChatRequest, repeat: int = 0
) -> ServedCompletion:
    completion = simulation.arrive(now, asked, repeat)
    assert isinstance(completion, ServedCompletion)
    return completion


def play(simulation: Simulation) -> dict[object, list[int]]:
    moments: dict[object, list[int]] = {}
    while (at := simulation.next_due()) is not None:
        for job, due in simulation.pop_due(at).items():
            moments.setdefault(job, []).extend(due)
    return moments


def read(completion: ServedCompletion, writes: int) -> tuple[str, str]:
    pieces = list(completion.script.pieces())
    assert len(pieces) == writes
    thought = "".join(piece.text for piece in pieces if piece.is_reasoning)
    return thought, "".join(piece.text for piece in pieces if not piece.is_reasoning)


def test_streams_are_exact_whatever_the_number_of_them_and_the_kind_of_prompt() -> None:
    simulation = simulate()
    texts = ["a question", "exactly 1 sub-questions as JSON\nTopic: x", "Write a report", "b"]
    made = [arrive(simulation, n * 3 * MS, ask(text)) for n, text in enumerate(texts)]
    moments = play(simulation)
    for n, completion in enumerate(made):
        first = n * 3 * MS + 200 * MS
        assert moments[completion.job] == [first + k * 10 * MS for k in range(100)]
        assert completion.tokens.output == 100
        assert completion.tokens.reasoning == 0


def test_one_scenario_second_lasts_time_scale_real_seconds() -> None:
    simulation = simulate(scale=0.01)
    completion = arrive(simulation, 0, ask())
    assert play(simulation)[completion.job] == [2 * MS + k * MS // 10 for k in range(100)]


def test_a_long_prompt_waits_longer() -> None:
    simulation = simulate(overrides={"ttft.per_1k_input_tokens": "1s"})
    completion = arrive(simulation, 0, ask("x" * 4 * 1996))  # 2000 tokens
    assert play(simulation)[completion.job][0] == 2200 * MS


def test_the_text_is_the_same_streamed_in_any_chunks_and_whole() -> None:
    told = []
    for chunk in (1, 7, 1000):
        simulation = simulate("deepseek-reasoner", {"tokens_per_chunk": chunk})
        completion = arrive(simulation, 0, ask("Topic: tides"))
        writes = len(completion.job.writes)
        told.append(read(completion, writes))
        moments = play(simulation)[completion.job]
        assert len(moments) == writes
        assert moments == sorted(moments)
    whole = arrive(simulate("deepseek-reasoner"), 0, ask("Topic: tides", stream=False))
    assert (
        told == [(whole.script.text_at_once("reasoning"), whole.script.text_at_once("answer"))] * 3
    )
    assert len(whole.job.writes) == 1
    assert all(told[0])


def test_the_first_chunk_comes_after_the_wait_and_the_last_when_its_tokens_are_made() -> None:
    """However many tokens a chunk has, and streamed or not."""
    overrides = {"answer_tokens.median": 10, "reasoning_tokens.median": 5, "tokens_per_chunk": 4}
    simulation = simulate(overrides=overrides)
    streamed = arrive(simulation, 0, ask())
    whole = arrive(simulation, 0, ask(stream=False))
    moments = play(simulation)
    # 4 + 1 tokens of reasoning, then 4 + 4 + 2 of the answer: never both in one chunk
    assert moments[streamed.job] == [(200 + 10 * k) * MS for k in (0, 1, 5, 9, 11)]
    assert moments[whole.job] == [(200 + 10 * 11) * MS]


def test_a_decomposition_is_valid_json_with_the_number_of_questions_asked_for() -> None:
    asked = ask("exactly 6 sub-questions as JSON\nTopic: ocean tides")
    script = arrive(simulate("deepseek-reasoner"), 0, asked).script
    questions = json.loads(script.text_at_once("answer"))["sub_questions"]
    assert len(set(questions)) == 6
    assert all("ocean tides" in question for question in questions)
    assert script.text_at_once("reasoning")


@given(st.integers(1, 40), st.booleans())
def test_the_token_limit_includes_the_reasoning_and_cuts_with_length(
    limit: int, stream: bool
) -> None:
    overrides = {"reasoning_tokens.median": 20, "answer_tokens.median": 10}
    completion = arrive(simulate(overrides=overrides), 0, ask(max_tokens=limit, stream=stream))
    assert completion.tokens.output == min(limit, 30)
    assert completion.tokens.reasoning == min(limit, 20)
    assert completion.script.finish_reason == ("stop" if limit >= 30 else "length")
    assert len(completion.job.writes) == (min(limit, 30) if stream else 1)


def test_a_provider_has_a_limit_of_its_own() -> None:
    completion = arrive(simulate(overrides={"max_output_tokens": 60}), 0, ask())
    assert (completion.tokens.output, completion.script.finish_reason) == (60, "length")


def facts(completion: ServedCompletion) -> tuple[object, ...]:
    job = completion.job
    return completion.tokens, tuple(job.writes), job.first_at, completion.name


@given(st.permutations(range(6)))
def test_what_a_prompt_gets_does_not_depend_on_who_came_before(order: list[int]) -> None:
    def all_of(order: list[int]) -> dict[int, tuple[object, ...]]:
        simulation = simulate("deepseek-reasoner")
        return {n: facts(arrive(simulation, 0, ask(f"question {n}"))) for n in order}

    assert all_of(order) == all_of(list(range(6)))


def test_lengths_differ_by_prompt_seed_and_repeat_but_not_by_arrival() -> None:
    def outcome(text: str, seed: int, repeat: int) -> tuple[object, ...]:
        simulation = simulate("deepseek-reasoner", seed=seed)
        return facts(arrive(simulation, 0, ask(text), repeat))[:3]

    base = outcome("a", 1, 0)
    assert len({base, outcome("b", 1, 0), outcome("a", 2, 0), outcome("a", 1, 1)}) == 4
    simulation = simulate("deepseek-reasoner")
    first, second = (arrive(simulation, 0, ask("a")) for _ in range(2))
    assert (first.arrival, second.arrival) == (1, 2)
    assert facts(first)[:3] == base
    assert facts(second)[:2] == base[:2]
    assert first.name != second.name
    assert arrive(simulation, 0, ask("a"), repeat=1).arrival == 1


def test_each_arrival_of_a_prompt_waits_anew_the_first_always_as_long() -> None:
    def waits(before: int = 0) -> list[int]:
        simulation = simulate("deepseek-reasoner", {"ttft.sigma": 1.0})
        for other in range(before):
            arrive(simulation, 0, ask(f"another {other}"))
        moments = [arrive(simulation, 0, ask("a")).job for _ in range(3)]
        played = play(simulation)
        return [played[job][0] for job in moments]

    assert len(set(waits())) == 3
    assert waits() == waits(before=4)


def test_a_request_over_the_cap_is_refused_counted_and_told_when_to_come_back() -> None:
    simulation = simulate(overrides={"concurrency_cap": 1, "retry_after": "2s"}, scale=0.5)
    first = arrive(simulation, 0, ask())
    refused = simulation.arrive(1, ask(), 0)
    assert isinstance(refused, Refused)
    assert (refused.arrival, refused.active, refused.retry_after) == (2, 1, 1000 * MS)
    simulation.cancel(2, first)
    assert arrive(simulation, 3, ask()).arrival == 3


def test_active_counts_those_served_when_a_request_comes() -> None:
    simulation = simulate()
    assert [arrive(simulation, 0, ask()).active for _ in range(3)] == [0, 1, 2]
    assert arrive(simulation, 10**12, ask()).active == 0  # the others are long through


@given(
    st.lists(st.tuples(st.integers(0, 3_000 * MS), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([1, 7, 64]),
)
def test_a_driver_that_follows_three_moments_sees_them_when_every_chunk_would_show_them(
    plan: list[tuple[int, bool]], chunk: int
) -> None:
    """However the requests slow each other down; and in between it is told how far they are."""
    overrides = {"tokens_per_chunk": chunk, "itl_b": "1ms", "reasoning_tokens.median": 80}
    all_chunks, marks = (simulate("plain-chat", overrides) for _ in range(2))
    pairs, now = [], 0
    for number, (gap, stream) in enumerate(plan):
        now += gap
        asked = ask(f"question {number}", stream=stream)
        other = marks.arrive(now, asked, 0, every_chunk=False)
        assert isinstance(other, ServedCompletion)
        pairs.append((arrive(all_chunks, now, asked), other))
    moments, few = play(all_chunks), play(marks)
    for one, other in pairs:
        assert one.tokens == other.tokens
        assert len(few[other.job]) == len(other.script.ends) <= 3
        at = dict(zip(one.script.ends, moments[one.job], strict=True))
        assert [at[end] for end in other.script.ends] == few[other.job]
        assert other.script.ends[-1] == one.tokens.output
        assert not one.request.stream or other.script.layout().chunks() == len(one.script.ends)


def test_how_far_a_request_is_can_be_told_at_any_moment() -> None:
    simulation = simulate(overrides={"tokens_per_chunk": 8})
    completion = simulation.arrive(0, ask(), 0, every_chunk=False)
    assert isinstance(completion, ServedCompletion)
    told = {
        at: simulation.tokens_made(at * MS, completion) for at in (199, 200, 209, 210, 1000, 1119)
    }
    assert told == {199: 0, 200: 8, 209: 8, 210: 9, 1000: 88, 1119: 99}
    layout = completion.script.layout()
    assert [layout.chunks(tokens) for tokens in told.values()] == [0, 1, 1, 1, 11, 12]
    assert simulation.tokens_made(1120 * MS, completion) == 100
    assert layout.chunks() == 13


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 9))
def test_chunks_are_counted_as_they_are_cut(reasoning: int, answer: int, size: int) -> None:
    overrides: dict[str, object] = {"answer_tokens.median": answer, "tokens_per_chunk": size}
    if reasoning:
        overrides["reasoning_tokens.median"] = reasoning
    script = arrive(simulate(overrides=overrides), 0, ask()).script
    for tokens in range(reasoning + answer + 1):
        assert script.layout().chunks(tokens) == sum(end <= tokens for end in script.ends)


def outcomes(simulation: Simulation, moments: Sequence[int], **asked: Any) -> list[int | None]:
    """Return for each arrival None if it is let in, else when it is told to come back."""
    answers = [simulation.arrive(at, ask(f"question {at}", **asked), 0) for at in moments]
    return [
        None if isinstance(answer, ServedCompletion) else (answer.retry_after or -1)
        for answer in answers
    ]


def test_requests_a_minute_are_counted_in_scenario_seconds_and_say_when_there_is_room() -> None:
    limit = {"requests_per_minute": 60, "burst": "2s", "retry_after": "exact"}
    moments = [0, 0, 0, 4 * MS, 10 * MS]
    told = outcomes(simulate(overrides=limit, scale=0.01), moments)
    assert told == [None, None, 10 * MS, 6 * MS, None]


def test_tokens_are_counted_when_they_have_been_made() -> None:
    """A prompt of 8 tokens at once, the 100 of the answer at its end, or what was made of them."""
    limit = {"tokens_per_minute": 120, "burst": "1m", "retry_after": "exact"}
    simulation = simulate(overrides=limit)
    first = arrive(simulation, 0, ask("x" * 16))
    end = play(simulation)[first.job][-1]
    assert end == 1190 * MS
    # 120 - 8 - 100 are left, and two a second come in: in 2 s there are 16 for the next prompt.
    assert outcomes(simulation, [end], messages=[message("x" * 48)]) == [
        pytest.approx(4 * SECOND / 2 - end, abs=1)
    ]
    broken_off = arrive(simulation, 2 * SECOND, ask("x" * 16))
    simulation.cancel(2 * SECOND + 200 * MS, broken_off)  # one token was made, seven are left
    assert outcomes(simulation, [2 * SECOND + 200 * MS], messages=[message("x" * 16)]) == [
        pytest.approx(300 * MS, abs=1)
    ]


def test_tokens_that_are_reserved_count_at_once_and_no_more_than_that() -> None:
    limit = {"tokens_per_minute": 120, "tokens_counted": "reserved", "retry_after": "exact"}
    simulation = simulate(overrides=limit)
    first = arrive(simulation, 0, ask("x" * 16, max_tokens=92))
    assert outcomes(simulation, [0], messages=[message("x" * 68)]) == [SECOND // 2]
    play(simulation)
    assert first.job.gone
    assert outcomes(simulation, [SECOND // 2], messages=[message("x" * 68)]) == [None]


def test_a_cap_that_steps_down_refuses_newcomers_and_leaves_the_others_alone() -> None:
    steps = {"concurrency_cap": 2, "cap_steps": [{"at": "1s", "cap": 1}, {"at": "2s", "cap": 3}]}
    simulation = simulate(overrides={**steps, "ttft.median": "1h"})
    begin = 5 * SECOND  # it counts from the first request
    moments = [begin, begin, begin, begin + SECOND, begin + 2 * SECOND, begin + 2 * SECOND]
    assert outcomes(simulation, moments) == [None, None, -1, -1, None, -1]
    assert simulation.active == 3


def test_slots_are_a_queue_and_not_a_refusal() -> None:
    simulation = simulate(overrides={"slots": 1})
    first, second = arrive(simulation, 0, ask("a")), arrive(simulation, 0, ask("b"))
    moments = play(simulation)
    assert moments[second.job][0] - moments[first.job][-1] == 200 * MS


def fault(kind: str, **more: Any) -> dict[str, object]:
    return {"faults": [{"kind": kind, "probability": 1, **more}]}


def test_a_fault_that_comes_instead_uses_no_allowance_and_no_place() -> None:
    overrides = {"requests_per_minute": 1, "concurrency_cap": 1, **fault("unavailable")}
    simulation = simulate(overrides=overrides)
    for _ in range(3):
        refused = simulation.arrive(0, ask(), 0)
        assert isinstance(refused, Refused)
        assert (refused.outcome, refused.status, refused.reason) == ("unavailable", 503, None)
    assert simulation.active == 0


def test_a_fault_strikes_where_it_is_asked_to_and_frees_its_place_unless_it_holds() -> None:
    lengths = {"reasoning_tokens.median": 40, "tokens_per_chunk": 8}
    for kind, at, ends in (
        ("missing_done", 0.5, [8, 16, 24, 32, 40, 48, 56, 64, 70]),
        ("stall", 0.5, [8, 16, 20]),
        ("truncated", 0.001, [1]),
        ("truncated", 1, [8, 16, 24, 32, 40, *range(48, 140, 8), 140]),
    ):
        simulation = simulate(overrides={**lengths, **fault(kind, at=at)})
        struck = arrive(simulation, 0, ask())
        assert list(struck.script.ends) == ends
        assert len(play(simulation)[struck.job]) == len(ends)
        assert struck.job.gone == (kind != "stall")
        assert simulation.tokens_made(10**12, struck) == ends[-1]
        simulation.cancel(10**12, struck)
        assert simulation.active == 0


def test_a_fault_in_the_text_leaves_its_beginning_as_it_would_have_been() -> None:
    whole = arrive(simulate("deepseek-reasoner"), 0, ask())
    cut = arrive(simulate("deepseek-reasoner", fault("missing_done", at=0.9)), 0, ask())
    assert whole.script.text_at_once("answer").startswith(cut.script.text_at_once("answer"))
    assert whole.script.text_at_once("reasoning") == cut.script.text_at_once("reasoning")
    assert whole.job.first_at == cut.job.first_at


def test_an_empty_answer_reasons_and_stops() -> None:
    for lengths, tokens in (({"reasoning_tokens.median": 40}, 40), ({}, 0)):
        completion = arrive(simulate(overrides={**lengths, **fault("empty_answer")}), 0, ask())
        assert (completion.tokens.output, completion.script.finish_reason) == (tokens, "stop")
        assert completion.script.text_at_once("answer") == ""


def test_an_outage_counts_from_the_first_request_whenever_that_comes() -> None:
    outage = {"start": "2s", "duration": "1s"}
    faults = {"faults": [{"kind": "unavailable", "outage": outage}]}
    for begin in (0, 77 * SECOND):
        moments = [begin + at * SECOND // 2 for at in range(8)]
        told = outcomes(simulate(overrides=faults), moments)
        assert [answer is not None for answer in told] == [at in (4, 5) for at in range(8)]


def test_a_topic_makes_all_its_answers_longer_or_shorter_in_every_repeat() -> None:
    """Half of the variance lies between the topics; what is left is each prompt's own."""
    spread = {"answer_tokens": {"median": 1000, "sigma": 0.3, "topic_sigma": 0.3}}
    simulation = simulate(overrides=spread)

    def length(topic: int, number: int, repeat: int) -> float:
        asked = ask(f"Topic: number {topic} of many\nquestion {number}", stream=False)
        return math.log(arrive(simulation, 0, asked, repeat).tokens.output or 0)

    logs = np.array(
        [[[length(t, n, repeat) for n in range(4)] for repeat in (0, 1)] for t in range(300)]
    )
    assert logs.std() == pytest.approx(0.3 * math.sqrt(2), rel=0.1)
    first, second = logs[:, 0], logs[:, 1]
    for one, other in ((first[:, 0], first[:, 1]), (first[:, 0], second[:, 0])):
        assert np.corrcoef(one, other)[0, 1] == pytest.approx(0.5, abs=0.15)
    assert (first != second).mean() > 0.9


def test_the_time_to_first_token_grows_with_the_requests_that_wait_for_it_and_not_for_a_slot() -> (
    None
):
    ttft = {
        "median": "1s", "per_1k_input_tokens": 0, "sigma": 0,
        "growth": [{"requests": 1, "factor": 1}, {"requests": 3, "factor": 3}],
    }  # fmt: skip
    simulation = simulate(overrides={"ttft": ttft})
    waits = [arrive(simulation, 0, ask(str(n))).job.wait for n in range(4)]
    assert waits == [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
    play(simulation)
    assert arrive(simulation, 99 * SECOND, ask("later")).job.wait == SECOND
    simulation = simulate(overrides={"ttft": ttft, "slots": 2})
    waits = [arrive(simulation, 0, ask(str(n))).job.wait for n in range(4)]
    assert waits == [SECOND, 2 * SECOND, 2 * SECOND, 2 * SECOND]


def test_the_time_to_first_token_can_grow_with_all_in_service() -> None:
    growth = [{"requests": 1, "factor": 1}, {"requests": 3, "factor": 3}]
    ttft = {"median": "1s", "per_1k_input_tokens": 0, "sigma": 0, "growth_in_service": growth}
    simulation = simulate(overrides={"ttft": ttft, "itl_a": "1s", "itl_b": 0})
    assert arrive(simulation, 0, ask("first")).job.wait == SECOND
    assert arrive(simulation, 2 * SECOND, ask("while it decodes")).job.wait == 2 * SECOND


def test_what_a_prompt_costs_follows_from_its_tokens_and_those_of_the_answer() -> None:
    costs = {"itl_per_1k_context": "1s", "prefill_per_1k_input_tokens": "1s"}
    simulation = simulate(overrides={**costs, "cached_share": 0.5})
    request = ask("a prompt of some tokens")
    completion = arrive(simulation, 0, request)
    tokens = completion.tokens
    assert completion.job.context == request.input_tokens + (tokens.output or 0) // 2
    unread = request.input_tokens - (tokens.cached or 0)
    assert completion.job.reading == pytest.approx(unread * SECOND / 1000)
    assert arrive(simulate(), 0, request).job.reading is None
    batches = simulate(overrides={"prefill_per_batch": "5ms", "cached_share": 1})
    assert arrive(batches, 0, request).job.reading == 0


def test_a_phase_has_its_own_cached_share() -> None:
    own = {"cached_share": 0.5, "phases.research.cached_share": 0.0}
    simulation = simulate(overrides=own)
    asked = ask("a prompt of some tokens")
    cached = [
        arrive(simulation, 0, msgspec.structs.replace(asked, phase=phase)).tokens.cached
        for phase in ("decompose", "research")
    ]
    assert cached == [5, 0]


def test_the_slowest_chunk_waits_for_the_longest_prompts_and_their_contexts() -> None:
    plain = simulate()
    costly = simulate(overrides={"prefill_per_1k_input_tokens": "1s", "itl_per_1k_context": "1ms"})
    assert plain.slowest_chunk(8, 1000) == plain.slowest_chunk(8)
    assert costly.slowest_chunk(8, 1000) > plain.slowest_chunk(8) + 8 * SECOND
    assert costly.slowest_chunk(8, 0) > plain.slowest_chunk(8)
