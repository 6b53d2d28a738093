"""Runs the lines that `benchmarks.pasted` tests as a program against `harness serve`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.pasted_mixes import Case, unchanged
from harness.bench.scenario_file import parse_scenario
from harness.records.provider_log import Served

Prompt = tuple[tuple[str, str], ...]


class Outcomes(NamedTuple):
    """What happened to each call, in the order of the prompts."""

    success: NDArray[np.bool_]
    attempts: NDArray[np.int64]
    latency: NDArray[np.float64]


class Program:
    """The lines with all requests to send; `results`: success and latency of each."""

    def __init__(self, lines: Sequence[str], requests: Sequence[dict[str, Any]]) -> None:
        space: dict[str, Any] = {}
        exec("\n".join(lines), space)
        self.client, self._ask = space["client"], space["ask"]
        self.results: list[tuple[bool, float]] = [(False, 0.0)] * len(requests)
        self._waiting = deque(enumerate(requests))

    def run(self, workers: int) -> None:
        """Send all requests in threads, or in this thread if there is one worker."""
        others = [threading.Thread(target=self._work) for _ in range(workers - 1)]
        for thread in others:
            thread.start()
        self._work()
        for thread in others:
            thread.join()
        self.client.close()

    async def run_async(self, workers: int) -> None:
        """Send all requests in tasks."""
        await asyncio.gather(*(self._work_async() for _ in range(workers)))
        await self.client.close()

    @contextlib.contextmanager
    def _next(self) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Give a request and a list for what it returns; an error is a failure of the call."""
        number, request = self._waiting.popleft()
        received: list[Any] = []
        began, ended = time.perf_counter(), False
        with contextlib.suppress(Exception):
            yield request, received
            ended = True
        answered = ended and is_complete(received, request["stream"])
        self.results[number] = answered, time.perf_counter() - began

    def _work(self) -> None:
        while self._waiting:
            with contextlib.suppress(IndexError), self._next() as (request, received):
                reply = self._ask(**request)
                received.extend(reply if request["stream"] else [reply])

    async def _work_async(self) -> None:
        while self._waiting:
            with self._next() as (request, received):
                reply = await self._ask(**request)
                received.extend([one async for one in reply] if request["stream"] else [reply])


def is_complete(received: Sequence[Any], stream: bool) -> bool:
    """Return whether a program has a complete answer: a text that ended by itself."""
    text, reason = "", None
    for choice in (choice for one in received for choice in one.choices):
        text += (choice.delta if stream else choice.message).content or ""
        reason = choice.finish_reason or reason
    return bool(text) and reason == "stop"


class Server:
    """`harness serve` with the faults of a case; `outcomes`: of each trial, when it has ended."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case = case
        self._scenario = parse_scenario(case.scenario(), "pasted")
        self._log = folder / "provider.jsonl"
        self._trials = 0
        self._results: dict[str, list[tuple[bool, float]]] = {}
        self.outcomes: dict[str, Outcomes] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the server, and name it in the environment of the programs."""
        with self._scenario.endpoint.server("", self._scenario.seed, self._log) as self._server:
            os.environ["OPENAI_BASE_URL"] = self._server.base_url
            os.environ["OPENAI_API_KEY"] = "none"
            yield
        arrivals = Counter(self._arrivals())
        for trial, results in self._results.items():
            self.outcomes[trial] = Outcomes(
                np.array([succeeded for succeeded, _ in results]),
                np.array([arrivals[trial, number] for number in range(len(results))]),
                np.array([latency for _, latency in results]),
            )

    def run(
        self,
        lines: Sequence[str],
        prompts: Sequence[Prompt],
        prelude: Callable[[Any], None] = unchanged,
    ) -> str:
        """Run the lines as a program with all prompts; return the name of the trial."""
        self._trials += 1
        trial = f"{self._trials:04x}"
        self._server.begin_trial(trial, 0)
        program = Program(lines, [self._request(number, p) for number, p in enumerate(prompts)])
        prelude(program.client)
        gc.collect()
        gc.freeze()  # as in a measurement
        if self._case.mode == "async":
            uvloop.run(program.run_async(self._case.in_flight))
        else:
            program.run(self._case.in_flight)
        gc.unfreeze()
        self._results[trial] = program.results
        return trial

    def _request(self, number: int, prompt: Prompt) -> dict[str, Any]:
        context = f"00-{self._trials:016x}{number + 1:016x}-{1:016x}-01"
        request: dict[str, Any] = {
            "model": self._scenario.endpoint.model,
            "messages": [{"role": role, "content": content} for role, content in prompt],
            "stream": self._scenario.endpoint.stream,
            "extra_headers": {
                "x-harness-repeat": "0", "x-harness-phase": "step", "traceparent": context,
            },
        }  # fmt: skip
        if request["stream"]:
            request["stream_options"] = {"include_usage": True}
        return request

    def _arrivals(self) -> Iterator[tuple[str | None, int]]:
        """Yield the trial and the number of the prompt of each request in the log."""
        for line in self._log.read_bytes().splitlines()[1:]:
            served = msgspec.json.decode(line, type=Served)
            if served.trace_id is not None:
                yield served.cell, int(served.trace_id[16:], 16) - 1
