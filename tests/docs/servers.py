"""Makes docs/servers.md: what servers do, how it is read here, and by the openai package alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import openai

from benchmarks.failures import ask_streamed, ask_whole, table
from harness.records.failures import OK
from tests.wire.fault_server import FaultServer, Seen, Step
from tests.wire.quirks import QUIRKS, Form

HEAD = """\
# How the answers of servers are read

This page is made from the table that tests send over HTTP: `python -m tests.docs.reference`. Each
row is a behaviour of a server that deviates from the API of OpenAI, or that many clients read
wrong. *Here* is the outcome of the attempt and, in brackets, the [anomalies](endpoints.md) in its
record. It is the same in the modes `sync`, `threads` and `async`. With `endpoint.strict = true`, an
outcome with an anomaly is a failure. *SDK* is what a program gets that uses openai
{version} as it is. "Streamed" and "whole" are the two forms of a request; a dash means that the
form does not show the behaviour.

A kept connection can bring a response that no request asked for, because a proxy answers twice or a
server goes on after the end. Bytes that arrive after the end of a response close the connection.
The answer to a request cannot arrive before the server has received the whole request: on Linux,
TCP says how much that is. A successful response that begins earlier is the failure
`unasked_response`, and the connection is closed; on other systems this holds only until the last
byte is sent. A refusal may come earlier. What cannot be known: a response that was sent after the
request had arrived, and looks like an answer, is taken for the answer. On the same machine a
request arrives within microseconds, so hardly any response is too early. With
`endpoint.reuse_connections = false` each request has a connection of its own, and no response can
be that of another request.

The SDK does not judge: what it calls "no error" may be a part of an answer, or reasoning in place
of one. [failures.md](failures.md) has the refusals and the failures of connections.

"""

_ROWS = {quirk.behaviour: quirk for quirk in QUIRKS}


def _answer(seen: Seen) -> Sequence[Step]:
    asked = json.loads(seen.body)
    quirk = _ROWS[asked["model"]]
    form = quirk.streamed if asked.get("stream") else quirk.whole
    assert form is not None, "only what there is is asked for"
    return form.steps


def servers_page() -> str:
    """Return the text of docs/servers.md."""
    rows = []
    with (
        FaultServer(_answer) as server,
        openai.DefaultHttpxClient(trust_env=False) as http,
        openai.OpenAI(
            api_key="none", base_url=server.base_url, max_retries=0, timeout=20, http_client=http
        ) as client,
    ):
        for quirk in QUIRKS:
            forms = ((quirk.streamed, True), (quirk.whole, False))
            rows.append(
                [
                    quirk.behaviour.replace("|", "\\|"),
                    *(_here(form) for form, _ in forms),
                    *(_sdk(client, quirk.behaviour, form, streamed) for form, streamed in forms),
                ]
            )
    heads = ("behaviour", "here, streamed", "here, whole", "SDK, streamed", "SDK, whole")
    return HEAD.format(version=openai.VERSION) + table(heads, rows) + "\n"


def _here(form: Form | None) -> str:
    if form is None:
        return "—"
    said = f"`{form.outcome}`"
    if form.outcome == OK and form.reasoning:
        said += ", reasoning apart"
    if form.outcome == OK and form.tokens.output is None:
        said += ", tokens unknown"
    elif form.outcome == OK and form.tokens.output != 5:
        said += f", output {form.tokens.output}"
    return said + (f" ({', '.join(form.anomalies)})" if form.anomalies else "")


def _sdk(client: openai.OpenAI, model: str, form: Form | None, streamed: bool) -> str:
    if form is None:
        return "—"
    try:
        what = ask_streamed(client, model, lambda: None) if streamed else ask_whole(client, model)
    except Exception as error:
        kind = type(error).__name__
        what = kind if isinstance(error, openai.OpenAIError) else f"`{kind}`, no OpenAIError"
    return what.replace("|", "\\|").replace("**", "")
