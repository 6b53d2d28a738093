"""Runs programs as workflows: in virtual time, or against a server that records requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

from harness.cli.main import main
from harness.store.run_directory import Records, read_records

MODEL = "endpoint-model"
ENDPOINT_KEY = "sk-of-the-endpoint"
PROGRAM_KEY = "sk-of-the-program"


class Seen(NamedTuple):
    """A request that the server has received."""

    path: str
    headers: Mapping[str, str]
    body: Any


class Answer(NamedTuple):
    """What the server answers; a body of several pieces is a stream."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {"content-type": "application/json"}


def completion(text: str = "an answer", **message: Any) -> Answer:
    choice = {
        "index": 0,
        "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    whole = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": MODEL,
        "choices": [choice], "usage": usage,
    }  # fmt: skip
    return Answer(body=json.dumps(whole).encode())


def streamed(*texts: str) -> Answer:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": text}, None) for text in texts]
    events = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*deltas, ({}, "stop")]
    ]
    body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    return Answer(body=body + b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"})


EMBEDDED = Answer(
    body=b'{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}'
)
FAILED = Answer(500, b'{"error": {"message": "broken"}}')


class Server:
    """An endpoint on 127.0.0.1. `seen`: the requests, in their order."""

    def __init__(self, answer: Callable[[Seen, int], Answer]) -> None:
        self.seen: list[Seen] = []
        self.base_url = ""
        self._answer = answer
        self._lock = threading.Lock()

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            number = len(self.seen)
        return self._answer(seen, number)

    def bodies(self, path: str = "/v1/chat/completions") -> list[Any]:
        return [seen.body for seen in self.seen if seen.path == path]


@contextmanager
def serving(answer: Callable[[Seen, int], Answer]) -> Iterator[Server]:
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = server.answer(Seen(self.path, headers, json.loads(body) if body else None))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.base_url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class Ran(NamedTuple):
    """A run that has ended. `errors`: why its workflows failed, None for those that did not."""

    status: int
    records: Records
    out: Path

    @property
    def errors(self) -> list[str | None]:
        return [workflow.error for workflow in self.records.workflows]

    @property
    def calls(self) -> list[tuple[str, int, str]]:
        """The phase, number and outcome of each call."""
        return sorted((one.phase, one.call, one.outcome) for one in self.records.calls)

    @property
    def error(self) -> str:
        [error] = self.errors
        assert error is not None
        return error


def run(
    folder: Path, program: str, endpoint: str, *options: str, function: str = "main", **sets: Any
) -> Ran:
    """Run a program. `endpoint`: the table; `sets`: values of dotted keys, dots as `__`."""
    (folder / "mine.py").write_text(dedent(program))
    (folder / "s.toml").write_text(
        f'name = "mine"\n[endpoint]\n{endpoint}\n[workflow]\nkind = "program"\n'
        f'program = "mine.py:{function}"\ntopics = ["tides"]\n'
        '[sweep]\nmode = ["async"]\npermits = [4]\n[load]\nworkflows = 1\n'
    )
    given = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in sets.items()]
    settings = [part for one in given for part in ("--set", one)]
    out = folder / "out"
    status = main(
        ["run", str(folder / "s.toml"), "--out", str(out), "--quiet", "--yes", *settings, *options]
    )
    return Ran(status, read_records(out), out)


def live(server: Server, more: str = "") -> str:
    return (
        f'kind = "openai"\nbase_url = "{server.base_url}"\nmodel = "{MODEL}"\n'
        f'api_key_env = "OWN_KEY"\nsettle = "0s"\n{more}'
    )


VIRTUAL = 'kind = "simulated"\nprofile = "deepseek-reasoner"\ntime = "virtual"'
