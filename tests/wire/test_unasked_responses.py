"""A response that no request asked for is not the next call's answer, in every mode."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest

from harness.bench.modes import MODES
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request
from harness.records.failures import OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Record, Transcript
from tests.bench.test_modes import PATIENT, open_gate
from tests.transports.attempts import make_target
from tests.wire.clients import now
from tests.wire.fault_server import PATIENCE, FaultServer, Seen, Step, Write
from tests.wire.test_response_limits import GOOD_ANSWER

TERMS = PATIENT._replace(keep_transcripts=True)
UNASKED = GOOD_ANSWER.replace(b'"hi"', b'"no"')
REFUSAL = b"HTTP/1.1 413 Too long\r\ncontent-length: 0\r\n\r\n"
BOOK = "word " * 4_000_000
"""More than the buffers of a connection hold, so that the server has not received all of it."""
EVERY_MODE = pytest.mark.parametrize("mode", ["sync", "threads", "async"])


def ask(mode: str, base_url: str, *questions: str) -> tuple[list[str], list[str]]:
    """Ask one question after another; return the outcomes of the attempts, and the answers."""

    def program() -> Program[None]:
        for number, question in enumerate(questions):
            key = CallKey("cell", 0, 0, 0, "fan_out", number, 1)
            yield from complete(TERMS, key, Request((Message("user", question),)), now())

    records: list[Record] = []
    MODES[mode](program(), make_target(base_url), 1, now, records.append, open_gate())
    outcomes = [one.outcome for one in records if isinstance(one, Attempt)]
    return outcomes, [one.answer for one in records if isinstance(one, Transcript)]


def receive_request(connection: socket.socket) -> None:
    """Receive a short request."""
    received = b""
    while b"Why?" not in received:
        received += connection.recv(65536)


def converse(listener: socket.socket, early: bytes, done: threading.Event) -> None:
    """Answer a request, then say `early` in the middle of the next one; answer a third one."""
    first, _ = listener.accept()
    with first:
        receive_request(first)
        first.sendall(GOOD_ANSWER)
        first.recv(1000)
        first.sendall(early)
        second, _ = listener.accept()
        with second:
            receive_request(second)
            second.sendall(GOOD_ANSWER)
            assert done.wait(PATIENCE)


@EVERY_MODE
@pytest.mark.parametrize(
    ("early", "outcome"),
    [
        (UNASKED, "unasked_response"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + UNASKED, "unasked_response"),
        (REFUSAL, "payload_too_large"),
    ],
    ids=["a response", "after an informational response", "a refusal"],
)
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_no_answer_arrives_before_the_server_has_the_request(
    early: bytes, outcome: str, mode: str
) -> None:
    """The connection is closed, and the next call has the answer to its own request."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=converse, args=(listener, early, done))
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        outcomes, answers = ask(mode, url, "Why?", BOOK, "Why?")
        done.set()
        server.join()
    assert outcomes == [OK, outcome, OK]
    assert [answer for answer in answers if answer] == ["hi", "hi"]


@EVERY_MODE
def test_a_second_response_closes_the_connection(mode: str) -> None:
    def answer(_: Seen) -> Sequence[Step]:
        return [Write(GOOD_ANSWER + UNASKED)]

    with FaultServer(answer) as server:
        outcomes, answers = ask(mode, server.base_url, *["Why?"] * 4)
        assert (outcomes, answers) == ([OK] * 4, ["hi"] * 4)
        assert server.connections == 4
