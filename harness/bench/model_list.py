"""Asks a server for the models that it has."""

from __future__ import annotations

import email.utils
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2
import msgspec

from harness.config.network import tls_context
from harness.config.request_settings import RequestSettings
from harness.endpoints.readiness import plain_headers
from harness.transports.exchange import classify

MOST_LIST_SECONDS = 10.0
"""For the whole list."""
_MOST_LISTED = 5_000_000
"""Bytes of a list that are read."""


class ModelList(NamedTuple):
    """The answer to `GET {base_url}/models`.

    `problem`: the failure class if there was none. `models`: by name, the tokens that a prompt and
    its answer may have together (`max_model_len`, as vLLM and others give it), or None; None in
    place of all if the answer is no list of models. `with_v1`: the status of the same request with
    `/v1` after the base URL, None if not sent. `clock_offset`: the server's time minus that of this
    machine, in seconds, by the Date header.
    """

    status: int | None
    problem: str | None
    models: Mapping[str, int | None] | None = None
    with_v1: int | None = None
    clock_offset: float | None = None


def list_models(base_url: str, request: RequestSettings, api_key: str) -> ModelList:
    """Ask for the list of models, for some seconds at most.

    `request`: with the values of its variables.
    """
    results: list[ModelList] = []

    def work() -> None:
        results.append(_list_models(base_url, request, api_key))

    # The timeouts of the client are those of single reads: a server that sends a byte a second
    # keeps it for ever. A daemon, because nobody waits for its end.
    asking = threading.Thread(target=work, name="models", daemon=True)
    asking.start()
    asking.join(MOST_LIST_SECONDS)
    return results[0] if results else ModelList(None, "call_timeout (the list of models)")


def _list_models(base_url: str, request: RequestSettings, api_key: str) -> ModelList:
    base, query = base_url.rstrip("/"), dict(request.query)
    headers = plain_headers(request, api_key)
    with_v1 = None
    try:
        tls = tls_context(True, request.ca_file, verify=request.verify)
        with httpx2.Client(
            verify=tls, headers=headers, params=query, timeout=MOST_LIST_SECONDS
        ) as http:
            response, body = _get(http, f"{base}/models")
            now = time.time()
            models = _models(response.status_code, body)
            if models is None and not base.endswith("/v1"):
                with_v1 = _get(http, f"{base}/v1/models")[0].status_code
    except Exception as error:
        outcome, detail = classify(error, False, "connect_timeout")
        return ModelList(None, f"{outcome} ({detail})")
    return ModelList(response.status_code, None, models, with_v1, _offset(response, now))


def _get(http: httpx2.Client, url: str) -> tuple[httpx2.Response, bytes]:
    """Return a response and its body, as far as it is read."""
    body = bytearray()
    with http.stream("GET", url) as response:
        for part in response.iter_bytes():
            body += part
            if len(body) > _MOST_LISTED:
                break
    return response, bytes(body)


def _models(status: int, body: bytes) -> dict[str, int | None] | None:
    if status != 200 or len(body) > _MOST_LISTED:
        return None
    try:
        whole: Any = msgspec.json.decode(body)
        listed = whole.get("data") if isinstance(whole, Mapping) else None
        return {str(one["id"]): _length(one.get("max_model_len")) for one in listed or ()} or None
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return None


def _length(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _offset(response: httpx2.Response, now: float) -> float | None:
    """Return the seconds by which the server's clock is ahead of `now`."""
    try:
        date = email.utils.parsedate_to_datetime(response.headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    offset = date.timestamp() + 0.5 - now  # the header has whole seconds
    return offset if math.isfinite(offset) else None
