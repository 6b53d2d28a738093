"""The tables of docs/failures.md: the failure classes, and what the openai package makes of them.

    python -m benchmarks.failures

Every fault goes over TCP to an `openai.OpenAI` as it is by default, two retries included, and
what comes back to the caller is written down. Nothing that decides is changed: only the pauses
before retries are left out, and where a timeout is to be reached it is `PATIENCE` in place of ten
minutes. Writes the tables into the document.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import openai
from openai.types.chat import ChatCompletionUserMessageParam

from benchmarks.sdk_faults import CASES, PATIENCE, Case
from harness.records.failures import FAILURES
from tests.wire.fault_server import FaultServer, Seen, Step

DOCUMENT = Path(__file__).parents[1] / "docs" / "failures.md"
LONG = 20.0
"""The client's timeout, in seconds, where none is to be reached."""
ASKED: ChatCompletionUserMessageParam = {"role": "user", "content": "why?"}


class Came(NamedTuple):
    """What the caller of the package got, after how many requests."""

    what: str
    requests: int


class Hasty(openai.OpenAI):
    """The package's client, which does not sleep before it tries again."""

    def _sleep_for_retry(self, **_: Any) -> None:
        """Do not sleep."""


class Provider:
    """Answers each request with the fault that its `model` names."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = {case.fault: case for case in cases}
        self.read = False
        self.server = FaultServer(self._answer)

    def _answer(self, seen: Seen) -> Sequence[Step]:
        asked = json.loads(seen.body)
        case = self._cases[asked["model"]]
        script = case.stream if asked.get("stream") else case.body
        assert script is not None, "only what there is is asked for"
        self.read = False
        return script(lambda: self.read)

    def noted(self) -> None:
        """The client has read something."""
        self.server.tell(lambda: setattr(self, "read", True))


def ask(base_url: str, case: Case, stream: bool, noted: Callable[[], None]) -> Came:
    """Make one call as applications do, and say what came back."""
    sent: list[object] = []
    hooks: Mapping[str, list[Callable[..., Any]]] = {"request": [sent.append]}
    timeout = PATIENCE if case.timed else LONG
    with Hasty(
        api_key="none",
        base_url=base_url,
        timeout=timeout,
        http_client=openai.DefaultHttpxClient(event_hooks=hooks, trust_env=False),
    ) as client:
        began = time.monotonic()
        try:
            what = (
                ask_streamed(client, case.fault, noted) if stream else ask_whole(client, case.fault)
            )
        except Exception as error:
            what = type(error).__name__
            if not isinstance(error, openai.OpenAIError):
                what = f"{type(error).__module__}.{what}, no OpenAIError"
        if case.drips and time.monotonic() - began > 3 * PATIENCE:
            what += ", after five times its timeout"
    return Came(what, len(sent))


def ask_whole(client: openai.OpenAI, model: str) -> str:
    """Ask for a whole answer, and say what came back."""
    answer: Any = client.chat.completions.create(model=model, messages=[ASKED])
    if not hasattr(answer, "choices"):
        return f"**no error**: a `{type(answer).__name__}` in place of a completion"
    if not answer.choices:
        extra = ", the error in `model_extra`" if "error" in (answer.model_extra or {}) else ""
        return f"**no error**: `choices` is `{answer.choices}`{extra}"
    [choice] = answer.choices
    return _described(choice.message.content, choice.finish_reason)


def ask_streamed(client: openai.OpenAI, model: str, noted: Callable[[], None]) -> str:
    """Ask for a stream, and say what came back."""
    text, reason, chunks = "", None, 0
    answer: Any = client.chat.completions.create(model=model, messages=[ASKED], stream=True)
    with answer:
        for chunk in answer:
            noted()
            chunks += 1
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
    return _described(text, reason) if chunks else "**no error**: not one chunk"


def _described(text: str | None, reason: str | None) -> str:
    return f"**no error**: {'text' if text else 'no text'}, `finish_reason` `{reason}`"


@contextmanager
def closed_port() -> Iterator[str]:
    """A port of this machine where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


@contextmanager
def full_port() -> Iterator[str]:
    """A port where not even the system makes a connection: no more of them fit."""
    with socket.socket() as sock, ExitStack() as waiting:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with suppress(TimeoutError):
            while True:
                waiting.enter_context(socket.create_connection(sock.getsockname(), timeout=0.1))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


_ELSEWHERE = {"connect_failed": closed_port, "connect_timeout": full_port}


def measure(cases: Sequence[Case]) -> Iterator[tuple[Case, Came | None, Came | None]]:
    """Yield what each case came to, streamed and whole; None where there is no such fault."""
    provider = Provider(cases)

    def come(base_url: str, case: Case, stream: bool) -> Came:
        return ask(base_url, case, stream, provider.noted)

    with provider.server as server:
        for case in cases:
            if case.outcome in _ELSEWHERE:
                with _ELSEWHERE[case.outcome]() as base_url:
                    yield case, come(base_url, case, True), come(base_url, case, False)
            else:
                streamed = come(server.base_url, case, True) if case.stream else None
                whole = come(server.base_url, case, False) if case.body else None
                yield case, streamed, whole


def classes() -> str:
    """Return the table of failure classes."""
    rows = [
        (f"`{row.name}`", row.seen, _yes(row.retryable), _yes(row.outage), row.advice)
        for row in FAILURES.values()
    ]
    return table(("class", "what is seen", "retry helps", "outage", "advice"), rows)


def by_default(measured: Iterator[tuple[Case, Came | None, Came | None]]) -> str:
    """Return the table of what the package makes of each fault."""
    return table(("fault", "class here", "streamed", "whole"), map(row_of, measured))


def row_of(measured: tuple[Case, Came | None, Came | None]) -> Sequence[str]:
    """Return the row of one fault."""
    case, streamed, whole = measured
    return case.fault, f"`{case.outcome}`", _cell(streamed), _cell(whole)


def table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(document: str, tables: Mapping[str, str]) -> str:
    """Return the document with each table between its marks."""
    for name, text in tables.items():
        before, begin, rest = document.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert end, f"the document has a place for {name}"
        document = f"{before}{begin}{text}\n{end}{after}"
    return document


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cell(came: Came | None) -> str:
    if came is None:
        return "—"
    return f"{came.what}; {came.requests} request{'s' if came.requests > 1 else ''}"


def main() -> int:
    """Measure, write the document, and say so."""
    tables = {"classes": classes(), "sdk": by_default(measure(CASES))}
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), tables))
    print(f"{DOCUMENT}: {len(FAILURES)} classes, {len(CASES)} faults, openai {openai.VERSION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
