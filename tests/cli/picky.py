"""A small server that wants its requests just so, on loopback, with or without TLS."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

QUESTIONS = json.dumps({"questions": ["a?", "b?", "c?"]})


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


class Answer(NamedTuple):
    """One response; `body`: of a whole answer if None."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class Picky(NamedTuple):
    """The server: its URL and the requests so far."""

    base_url: str
    asked: list[Asked]


@contextmanager
def picky(answer: Callable[[Asked], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Picky]:
    """Answer each request as `answer` says."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._respond(json.loads(body))

        def _respond(self, body: dict[str, Any]) -> None:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            one = Asked(self.command, url.path, dict(parse_qsl(url.query)), headers, body)
            asked.append(one)
            given = answer(one)
            kind, text = whole_or_stream(one, {}) if given.body is None else (None, given.body)
            self.send_response(given.status)
            if kind is not None:
                self.send_header("content-type", kind)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing when a client goes away."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
        try:
            yield Picky(f"{scheme}://{host}:{server.server_port}/v1", asked)
        finally:
            server.shutdown()
            thread.join()


def whole_or_stream(
    asked: Asked, more: Mapping[str, Any], text: str = QUESTIONS
) -> tuple[str, bytes]:
    """Return the content type and the body of an answer; `more`: further fields of it."""
    head = {"id": "c1", "model": asked.body.get("model", "m"), "created": 1, **more}
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    if not asked.body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **_reason(more)}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return "application/json", json.dumps(whole).encode()
    first = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop", **_reason(more)}
    parts = [{**head, "choices": [first]}, {**head, "choices": [last]}]
    if asked.body.get("stream_options"):
        parts.append({**head, "choices": [], "usage": usage})
    lines = [f"data: {json.dumps({'object': 'chat.completion.chunk', **part})}" for part in parts]
    return "text/event-stream", "\n\n".join([*lines, "data: [DONE]", ""]).encode() + b"\n"


def _reason(more: Mapping[str, Any]) -> dict[str, Any]:
    return {name: more[name] for name in ("finish_reason",) if name in more}


def echoed(asked: Asked, number: int) -> Answer:
    """Return an answer or a refusal that repeats the key wherever a text can be."""
    key = asked.headers.get("authorization", "").removeprefix("Bearer ")
    forms = [key, b64encode(f"user:{key}".encode()).decode(), quote(key, safe=""), f"Bearer {key}"]
    header = {"x-request-id": f"req-{forms[1]}", "x-cut": key}
    error = {"message": f"bad: {' '.join(forms)}", "code": key, "type": forms[1]}
    match number % 6:
        case 1:
            return Answer(500, header, json.dumps({"error": error}).encode())
        case 2:
            kind, body = whole_or_stream(asked, {"finish_reason": key})
        case 3:
            text = json.dumps({"error": error})
            kind, body = "text/event-stream", f"data: {text}\n\n".encode()
        case 4:
            return Answer(307, {**header, "location": f"/elsewhere?key={forms[2]}"}, b"")
        case _:
            text = json.dumps({"questions": [f"{one}?" for one in forms[:3]]})
            kind, body = whole_or_stream(asked, {"id": key, "model": f"m-{forms[1]}"}, text)
    return Answer(200, {**header, "content-type": kind}, body)


def refused(status: int, message: str, **headers: str) -> Answer:
    """Return a refusal with an error object."""
    body = json.dumps({"error": {"message": message}}).encode()
    return Answer(status, {"content-type": "application/json", **headers}, body)
