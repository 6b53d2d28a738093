"""The policy `openai-sdk` against the installed openai package, so that a change there shows.

The first half compares with the package's two rules, which are private and used nowhere else. The
second half counts what the package really sends, over a transport of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import httpx2
import openai
import openai._base_client
import pytest
from openai._models import FinalRequestOptions

from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.retry import Failure
from harness.records.clock import SECOND
from harness.records.failures import of_status
from harness.transports.exchange import retry_after
from tests.policies.test_retry import Draws

MAX_RETRIES = 6
STATUSES = [301, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 529, 599]
HEADERS: list[dict[str, str]] = [
    {},
    {"retry-after": "3"},
    {"retry-after": "0"},
    {"retry-after": "-3"},
    {"retry-after": "0.25"},
    {"retry-after": "120"},
    {"retry-after": "121"},
    {"retry-after": "soon"},
    {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"},
    {"retry-after-ms": "1500"},
    {"retry-after-ms": "1500", "retry-after": "7"},
    {"retry-after-ms": "0", "retry-after": "7"},
    {"retry-after-ms": "later", "retry-after": "7"},
    {"retry-after-ms": "120001"},
    {"retry-after": "inf"},
    {"retry-after": "nan"},
    {"x-should-retry": "true"},
    {"x-should-retry": "false"},
    {"x-should-retry": "maybe"},
    {"x-should-retry": "true", "retry-after": "5"},
    {"x-should-retry": "true", "retry-after": "500"},
    {"x-should-retry": "false", "retry-after": "5"},
]
_SAYS = {"true": True, "false": False}


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="unused", max_retries=MAX_RETRIES) as client:
        yield client


@pytest.fixture(params=[0.0, 0.4, 1 - 2**-53])
def draw(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    value: float = request.param
    monkeypatch.setattr(openai._base_client, "random", lambda: value)
    return value


def published(
    client: openai.OpenAI, status: int, headers: dict[str, str], attempt: int
) -> int | None:
    """Return the nanoseconds after which the package tries again, None when it does not."""
    response = httpx2.Response(status, headers=headers)
    remaining = MAX_RETRIES - (attempt - 1)
    if remaining <= 0 or not client._should_retry(response):
        return None
    options = FinalRequestOptions.construct(method="post", url="/x", max_retries=MAX_RETRIES)
    return round(client._calculate_retry_timeout(remaining, options, response.headers) * SECOND)


def ours(status: int, headers: dict[str, str], attempt: int, draw: float) -> int | None:
    failure = Failure(
        attempt=attempt,
        outcome=of_status(status),
        status=status,
        retry_after=retry_after(headers, unix_seconds=1.7e9),
        should_retry=_SAYS.get(headers.get("x-should-retry", "")),
        now=0,
        deadline=10**15,
    )
    return OpenAISdkRule(MAX_RETRIES).decide(failure, Draws(draw)).retry_in


def test_the_policy_waits_as_long_as_the_package_after_every_status(
    client: openai.OpenAI, draw: float
) -> None:
    for status, headers, attempt in product(STATUSES, HEADERS, range(1, MAX_RETRIES + 2)):
        case = (status, headers, attempt)
        assert ours(*case, draw) == published(client, *case), case


def test_the_package_has_the_defaults_that_the_policy_has() -> None:
    with openai.OpenAI(api_key="unused") as client:
        assert client.max_retries == 2


class Broken(httpx2.SyncByteStream):
    """A body that breaks off after its first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"choices": ['
        raise httpx2.ReadError("reset")


def refuse(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def hang_up(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.RemoteProtocolError("closed before the headers")


def take_too_long(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("no headers")


def break_off(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, stream=Broken(), headers={"content-type": "application/json"})


def answer_with_an_error(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"error": {"message": "overloaded"}})


def answer_with_html(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, html="<p>Bad gateway</p>")


def answer_busy(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(503)


def answer_refused(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(401)


Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("handler", "outcome", "status"),
    [
        (refuse, "connect_failed", None),
        (hang_up, "connection_lost", None),
        (take_too_long, "first_token_timeout", None),
        (break_off, "connection_lost", 200),
        (answer_with_an_error, "error_in_body", 200),
        (answer_with_html, "not_json", 200),
        (answer_busy, "unavailable", 503),
        (answer_refused, "unauthorized", 401),
    ],
)
def test_the_policy_tries_again_what_the_package_tries_again(
    handler: Handler, outcome: str, status: int | None, streamed: bool
) -> None:
    failure = Failure(1, outcome, status, None, None, now=0, deadline=10**15)
    decision = OpenAISdkRule(1, streamed).decide(failure, Draws(0.5))
    assert (decision.retry_in is not None) == (sent_by_the_package(handler, streamed) == 2)


def sent_by_the_package(handler: Handler, streamed: bool) -> int:
    sent = []

    def count(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return handler(request)

    transport = httpx2.MockTransport(count)
    with openai.OpenAI(
        api_key="unused",
        base_url="http://provider.test",
        max_retries=1,
        http_client=httpx2.Client(transport=transport),
    ) as client:
        client._sleep_for_retry = _no_sleep  # type: ignore[method-assign]
        ask(client, streamed)
    return len(sent)


def ask(client: openai.OpenAI, streamed: bool) -> None:
    """Make one call and read it; how it fails is not what is asked here."""
    try:
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "why?"}], stream=streamed
        )
        if streamed:
            list(answer)
    except (openai.OpenAIError, httpx2.HTTPError):
        pass


def _no_sleep(**_: Any) -> None:
    """Retry at once."""
