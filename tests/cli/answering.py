"""Commands run whole: a scenario of one's own, and endpoints on loopback that work or refuse."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.config.toml_text import toml_document
from harness.endpoints.simulated import start_simulator

KEY = "sk-plantedkeyplantedkey"
FAST = {"ttft.median": "10ms", "ttft.sigma": 0.0, "itl_a": "1us", "tokens_per_chunk": 100}
# Prompts carry the run's nonce, so every run draws anew: without spread no answer is ever cut off.
FAST |= {"reasoning_tokens.sigma": 0.0, "answer_tokens.sigma": 0.0}
FAST |= {f"phases.{phase}.reasoning_tokens.sigma": 0.0 for phase in ("decompose", "synthesize")}
FAST |= {"phases.synthesize.answer_tokens.sigma": 0.0}


@contextmanager
def working(folder: Path, **override: object) -> Iterator[str]:
    """Answer as a live endpoint would, at once; yield the base URL."""
    log = folder / "provider-of-its-own.jsonl"
    with start_simulator("deepseek-reasoner", {**FAST, **override}, 1, 1.0, log) as provider:
        yield provider.base_url


class Refusing:
    """Answers every request with one status: with a text, or with the request's own key."""

    def __init__(self, status: int, text: str | None = None) -> None:
        self.status = status
        self.text = text
        self.keys: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.base_url = ""


class _Quiet(ThreadingHTTPServer):
    """A server that says nothing when a client that has seen enough goes away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def saying(text: str) -> AbstractContextManager[Refusing]:
    """Answer everything with one text, as a load-test server does; yield what was asked."""
    return refusing(200, text)


@contextmanager
def refusing(status: int, text: str | None = None) -> Iterator[Refusing]:
    """Refuse everything; yield what was asked."""
    refuser = Refusing(status, text)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            refuser.bodies.append(json.loads(asked))
            key = self.headers["authorization"]
            refuser.keys.append(key)
            answer: dict[str, Any] = {"error": {"message": f"no: {key}", "code": key}}
            if refuser.text is not None:
                message = {"role": "assistant", "content": refuser.text}
                answer = {"choices": [{"message": message, "finish_reason": "stop"}]}
            body = json.dumps(answer).encode()
            self.send_response(refuser.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with _Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        refuser.base_url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield refuser
        finally:
            server.shutdown()
            thread.join()


def scenario(folder: Path, base_url: str, **sections: object) -> Path:
    base: dict[str, object] = {
        "name": "own",
        "workflow": {
            "topics": ["tides"],
            "sub_questions": 3,
            "max_tokens": {"decompose": 4000, "research": 4000, "synthesize": 4000},
        },
        "endpoint": {
            "kind": "openai",
            "base_url": base_url,
            "model": "m",
            "api_key_env": "OWN_KEY",
            "price": {"input": 1.0, "output": 2.0},
        },
        "load": {"workflows": 4, "in_flight": 4},
        "sweep": {"mode": ["async"], "permits": [4]},
    }
    whole: dict[str, Any] = {**base, **sections}
    whole["load"] = {"warmup_calls": 0, **whole["load"]}  # attempts are counted
    file = folder / "own.toml"
    file.write_text(toml_document(whole))
    return file


def copied(run: Path) -> str:
    """Return a copy of a run: the same run twice cannot be compared."""
    return str(shutil.copytree(run, run.parent / f"{run.name}-copy"))


def one_line(said: str) -> str:
    [line] = said.splitlines()
    assert line.startswith("harness: ")
    return line
