"""The load of `benchmarks.peers` as a Locust file. Locust runs it; this project never imports it.

Each user sends `WARM_UP` requests, waits until the other users of its process have done so too, and
sends `CALLS` requests, one after another. The run ends with the last user of the last process.
With `STREAM`, the response time that Locust reports ends with the headers, which the server sends
with the first token.
"""

from __future__ import annotations

import os
from typing import Any

from gevent.event import Event
from locust import FastHttpUser, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

CALLS = int(os.environ["CALLS"])
WARM_UP = int(os.environ["WARM_UP"])
STREAM = os.environ["STREAM"] == "true"
PROMPT = os.environ["PROMPT"]
BODY = {"model": "known", "stream": STREAM, "messages": [{"role": "user", "content": PROMPT}]}
ENDED = "a process has ended its calls"
PIECE = 1 << 16


class _Progress:
    """How many users of this process are ready, and how many have ended."""

    def __init__(self) -> None:
        self.ready, self.ended = 0, 0
        self.begin = Event()


progress = _Progress()
workers_ended: list[str] = []


@events.init.add_listener  # type: ignore[untyped-decorator]
def end_with_the_last_worker(environment: Any, **_: Any) -> None:
    """Let the first process end the run when each of the others has said that it is done."""
    runner = environment.runner

    def count(msg: Any, **_: Any) -> None:
        workers_ended.append(msg.node_id)
        if len(workers_ended) == runner.worker_count:
            runner.stop()  # the others report their last figures
            runner.quit()

    if isinstance(runner, MasterRunner):
        runner.register_message(ENDED, count, concurrent=True)


class Caller(FastHttpUser):  # type: ignore[misc]
    """One request after another, over one connection."""

    def on_start(self) -> None:
        """Open the connection, and wait for the others."""
        for _ in range(WARM_UP):
            self.send("warm-up")
        progress.ready += 1
        if progress.ready == self.users():
            progress.begin.set()
        progress.begin.wait()

    def users(self) -> int:
        """Return how many users this process has."""
        return sum(self.environment.runner.target_user_classes_count.values())

    def send(self, name: str) -> None:
        """Send a request and read the response to its end."""
        response = self.client.post("/v1/chat/completions", json=BODY, name=name, stream=STREAM)
        if STREAM:
            for _ in response.iter_content(PIECE):
                pass

    @task  # type: ignore[untyped-decorator]
    def calls(self) -> None:
        """Send the requests that are measured."""
        for _ in range(CALLS):
            self.send("call")
        progress.ended += 1
        runner = self.environment.runner
        if progress.ended == self.users() and isinstance(runner, WorkerRunner):
            runner.send_message(ENDED)
        raise StopUser
