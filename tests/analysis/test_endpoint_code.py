"""The lines to paste reach the endpoint as the run did."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import msgspec
import openai
import pytest

from harness.analysis.code_snippet import FailuresMet, lines_to_paste
from tests.analysis.builders import cell_info, make_run
from tests.wire.clients import CERTIFICATE
from tests.wire.fault_server import FaultServer, Write

FINE = FailuresMet(frozenset({"ok"}), retry_after=False, deadline=False)
KEYS = """
auth = "header:api-key"
api_key_env = "MY_KEY"
headers = { X-Team = "blue", X-Secret = "env:TEAM_KEY" }
query = { api-version = "2026-01-01" }
omit = ["stream_options"]
rename = { max_tokens = "max_completion_tokens" }
system = "user"
reuse_connections = false
"""
ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hi"},
            }
        ],
    }
).encode()
RESPONSE = Write(
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
    + ANSWER
)


def pasted(
    keys: str,
    mode: str,
    met: FailuresMet | None,
    base_url: str = "http://localhost:9",
) -> list[str]:
    cell = f"{mode}_1_none_attempt"
    run = make_run([cell], simulated=False)
    toml = f'base_url = "{base_url}"\nmodel = "m"\n{keys}'
    own = msgspec.toml.decode(toml, type=dict[str, Any])
    endpoint = {**run.scenario["endpoint"], **own, "stream": False}
    run = msgspec.structs.replace(run, scenario={**run.scenario, "endpoint": endpoint})
    lines = list(lines_to_paste(run, cell_info(cell), met))
    assert max(map(len, lines)) <= 76
    return lines


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("met", [FINE, None], ids=["plain code", "a client of the harness"])
def test_pasted_code_sends_what_the_run_sent(
    mode: str, met: FailuresMet | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-own")
    monkeypatch.setenv("TEAM_KEY", "sk-team")
    with FaultServer(lambda _: [RESPONSE]) as server:
        lines = pasted(KEYS, mode, met, server.base_url)
        assert _asked(lines, mode) == "hi"
        [seen] = server.seen
    assert ("import harness" in lines) == (met is None)
    for comment in (
        "    # measured without stream_options",
        "    # measured with max_completion_tokens instead of max_tokens",
        "    # measured with system prompts in the messages of the user",
    ):
        assert comment in lines
    assert seen.head.startswith(b"POST /v1/chat/completions?api-version=2026-01-01 ")
    own = [seen.header(name) for name in ("authorization", "api-key", "x-team", "x-secret")]
    assert own == [None, "sk-own", "blue", "sk-team"]
    assert seen.header("connection") == "close"


def _asked(lines: list[str], mode: str) -> str:
    space: dict[str, Any] = {}
    question: Any = {"model": "m", "messages": [{"role": "user", "content": "q"}]}

    async def whole() -> Any:
        exec("\n".join(lines), space)
        async with space["client"]:
            return await space["ask"](**question)

    if mode == "async":
        answer = asyncio.run(whole())
    else:
        exec("\n".join(lines), space)
        with space["client"]:
            answer = space["ask"](**question)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("met", [FINE, None], ids=["plain code", "a client of the harness"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("keys", "accepted"),
    [(f'ca_file = "{CERTIFICATE}"', True), ("verify = false", True), ("", False)],
    ids=["ca_file", "verify", "neither"],
)
def test_pasted_code_trusts_what_the_run_trusted(
    keys: str, accepted: bool, mode: str, met: FailuresMet | None
) -> None:

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    with FaultServer(lambda _: [RESPONSE], tls=context) as server:
        lines = pasted(keys.replace(str(CERTIFICATE), "ca.pem"), mode, met, server.base_url)
        lines = [line.replace("ca.pem", str(CERTIFICATE)) for line in lines]
        if accepted:
            assert _asked(lines, mode) == "hi"
        else:
            with pytest.raises(openai.APIConnectionError):
                _asked(lines, mode)


def test_an_endpoint_without_these_keys_needs_no_more_lines() -> None:
    lines = pasted("", "async", FINE)
    assert not any("default_" in line or "http_client" in line for line in lines)
    assert "import os" not in lines


@pytest.mark.parametrize("met", [FINE, None], ids=["plain code", "a client of the harness"])
def test_pasted_code_says_that_it_was_measured_with_the_wire_client(
    met: FailuresMet | None,
) -> None:
    comment = "    # measured with client = 'wire'; the openai package takes more time"
    assert comment in pasted('client = "wire"', "async", met)
    assert comment not in pasted('client = "openai"', "async", met)
