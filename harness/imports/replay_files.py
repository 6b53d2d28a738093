"""Writes the scenario of a replay and its data: lengths and times alone, no content."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.imports.happens_before import InferredTrace
from harness.workflows.replay.data_file import ReplayData, ReplayedCall, ReplayedWorkflow


class ReplayFiles(NamedTuple):
    """The workflows of a replay, and how often something was left out, by the reason."""

    workflows: tuple[ReplayedWorkflow, ...]
    left_out: Counter[str]


def replay_files(found: Sequence[InferredTrace]) -> ReplayFiles:
    """Return the workflows. Calls that failed or have no output are left out.

    What waited for such a call waits for what that one waited for.
    """
    left = Counter[str]()
    first = min(one.trace.arrival for one in found)
    workflows = []
    for one in found:
        kept: list[ReplayedCall] = []
        place: dict[int, int] = {}
        stands: dict[int, tuple[set[int], float]] = {}
        for number, call in enumerate(one.trace.calls):
            after, gap = set[int](), one.gaps[number] / 1e9
            for before in one.after[number]:
                if before in place:
                    after.add(place[before])
                else:
                    after |= stands[before][0]
                    gap += stands[before][1]
            if not call.ok or not call.output:
                left["calls that failed or wrote nothing"] += 1
                stands[number] = after, gap
                continue
            place[number] = len(kept)
            read = max(call.input or 0, 1)
            kept.append(
                ReplayedCall(
                    input=read, output=call.output, after=tuple(sorted(after)), gap=round(gap, 6),
                    cached=None if call.cached is None else min(call.cached, read),
                    reasoning=None if call.reasoning is None else min(call.reasoning, call.output),
                )
            )  # fmt: skip
        if kept:
            at = round((one.trace.arrival - first) / 1e9, 6)
            workflows.append(ReplayedWorkflow(at, tuple(kept)))
        else:
            left["workflows without a call that succeeded"] += 1
    return ReplayFiles(tuple(workflows), left)


def replay_scenario(
    name: str, data: str, content: ReplayData, source: str, in_flight: int | None, fewest: int
) -> str:
    """Return the scenario. `in_flight`: of a closed loop; None for the recorded arrivals.

    `fewest`: the workflows that a 95th percentile, the objective of an open loop, needs. Fewer
    recorded ones are repeated.
    """
    count, rate = len(content.workflows), content.per_second
    open_loop = in_flight is None and rate is not None
    loop = (
        f'arrivals = {{ process = "recorded", per_second = {rate:.9g} }}'
        if open_loop
        else f"in_flight = {min(in_flight or count, count)}"
    )
    turns = -(-fewest // count) if open_loop else 1
    again = f"# The recorded ones {turns} times: a 95th percentile needs {fewest}.\n"
    objective = '\n[objective]\nminimise = "workflow_p95"\n' if open_loop else ""
    return f"""# Made by `harness import` from a file of the kind: {source}.
# It has lengths and times of the recorded calls, and nothing of their content. See docs/import.md.
name = {json.dumps(name)}
description = "Recorded traffic, replayed."

[workflow]
kind = "replay"
data = {json.dumps(data)}

# For a server of your own, put this in the place of [endpoint]. ignore_eos (vLLM, SGLang) makes
# answers as long as recorded; leave it out where the server does not know it.
# [endpoint]
# kind = "openai"
# base_url = "http://127.0.0.1:8000/v1"
# model = "MODEL"
# extra_body = {{ ignore_eos = true }}
[endpoint]
kind = "simulated"
time = "virtual"

[load]
{again if turns > 1 else ""}workflows = {turns * count}
{loop}

[sweep]
permits = [1, 4, 16]
repeats = "auto"
{objective}"""
