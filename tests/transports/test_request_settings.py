"""What a request looks like on the wire with the settings of an endpoint, in both clients."""

from __future__ import annotations

import json

import msgspec
import pytest

from harness.config.request_settings import RequestSettings
from harness.engine.effects import Message, Request
from harness.transports.request_bodies import request_body, with_system
from tests.transports.attempts import make_send, make_target
from tests.transports.bodies import EVENT_STREAM
from tests.wire.clients import BOTH, Sending
from tests.wire.fault_server import END, FaultServer, Seen, Step, Write, framed, head
from tests.wire.faults import GOOD

ANSWER: list[Step] = [
    Write(head(200, ("content-type", EVENT_STREAM))),
    Write(framed(b"".join(GOOD))),
    Write(END),
]


def request_line(seen: Seen) -> str:
    return seen.head.decode().split("\r\n", 1)[0]


@BOTH
@pytest.mark.parametrize(
    ("auth", "authorization", "own"),
    [
        ("bearer", "Bearer sk-test", None),
        ("header:Api-Key", None, "sk-test"),
        ("none", None, None),
    ],
)
def test_the_key_is_sent_in_the_header_that_the_endpoint_wants(
    sending: Sending, auth: str, authorization: str | None, own: str | None
) -> None:
    with FaultServer(lambda _: ANSWER) as server:
        target = make_target(server.base_url, request=RequestSettings(auth=auth))
        [reply] = sending(target, make_send())
        [seen] = server.seen
    assert reply.outcome == "ok"
    assert seen.header("authorization") == authorization
    assert seen.header("api-key") == own
    assert (b"sk-test" in seen.head) == (auth != "none")


@BOTH
def test_headers_and_query_are_part_of_every_request(sending: Sending) -> None:
    settings = RequestSettings(headers={"X-Team": "blue"}, query={"api-version": "2026-01"})
    with FaultServer(lambda _: ANSWER) as server:
        sending(make_target(server.base_url, request=settings), make_send(), make_send())
        assert [seen.header("x-team") for seen in server.seen] == ["blue", "blue"]
        lines = {request_line(seen) for seen in server.seen}
    assert lines == {"POST /v1/chat/completions?api-version=2026-01 HTTP/1.1"}


def test_keys_of_the_body_are_left_out_and_renamed() -> None:
    settings = RequestSettings(
        omit=("stream_options", "response_format"), rename={"max_tokens": "max_completion_tokens"}
    )
    request = Request((Message("user", "hi"),), max_tokens=5, json_mode=True)
    target = make_target(request=settings, extra_body={"response_format": "own"})
    assert request_body(target, request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_completion_tokens": 5,
        "response_format": "own",
    }


def test_system_prompts_go_where_the_endpoint_takes_them() -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "system", "content": "End."},
    ]
    assert with_system(said, "message") == said
    assert with_system(said, "omit") == said[1:3]
    assert with_system(said, "user") == [
        {"role": "user", "content": "Be brief.\n\nWhy?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "End."},
    ]


def test_system_prompts_of_a_program_go_there_too() -> None:
    parts = [{"type": "text", "text": "Why?"}]
    said = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": parts},
    ]
    request = Request((), body=msgspec.json.encode({"messages": said}))
    target = make_target(request=RequestSettings(system="user"))
    assert request_body(target, request)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Be brief."}, *parts]}
    ]


# Redirects.


def redirect(status: int, location: str) -> list[Step]:
    return [Write(head(status, ("location", location))), Write(END)]


FOLLOWING = RequestSettings(follow_redirects=True, auth="header:api-key")


@BOTH
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_the_same_origin_is_followed_with_key_and_body(
    sending: Sending, status: int
) -> None:
    def answer(seen: Seen) -> list[Step]:
        moved = request_line(seen).startswith("POST /v1/chat/completions/ ")
        return ANSWER if moved else redirect(status, "/v1/chat/completions/")

    with FaultServer(answer) as server:
        replies = sending(make_target(server.base_url, request=FOLLOWING), make_send(), make_send())
        first, second, *_ = server.seen
        assert len(server.seen) == 4
    assert [reply.outcome for reply in replies] == ["ok", "ok"]
    assert [reply.status for reply in replies] == [200, 200]
    assert json.loads(second.body) == json.loads(first.body)
    assert second.header("api-key") == "sk-test"
    assert all(reply.sent and reply.headers and reply.sent < reply.headers for reply in replies)


@BOTH
def test_no_redirect_is_followed_unless_the_scenario_says_so(sending: Sending) -> None:
    with FaultServer(lambda _: redirect(307, "/v1/other")) as server:
        [reply] = sending(make_target(server.base_url), make_send())
        assert len(server.seen) == 1
    assert (reply.outcome, reply.status) == ("http_error", 307)


@BOTH
def test_the_key_goes_to_no_other_origin_and_the_body_is_not_dropped(sending: Sending) -> None:
    with FaultServer(lambda _: ANSWER) as other:
        with FaultServer(lambda _: redirect(307, f"{other.base_url}/chat/completions")) as server:
            [reply] = sending(make_target(server.base_url, request=FOLLOWING), make_send())
        assert (reply.outcome, reply.status) == ("http_error", 307)
        with FaultServer(lambda _: redirect(303, "/v1/chat/completions")) as server:
            [reply] = sending(make_target(server.base_url, request=FOLLOWING), make_send())
            assert len(server.seen) == 1
        assert (reply.outcome, reply.status) == ("http_error", 303)
        assert other.connections == 0


@BOTH
def test_redirects_in_a_circle_end(sending: Sending) -> None:
    with FaultServer(lambda _: redirect(307, "/v1/chat/completions")) as server:
        [reply] = sending(make_target(server.base_url, request=FOLLOWING), make_send())
    assert (reply.outcome, reply.status) == ("http_error", 307)
