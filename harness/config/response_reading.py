"""How the responses of an endpoint are read: their limits, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from harness.config.config_base import Section

FinishMeaning = Literal[
    "ok", "truncated", "content_filter", "aborted", "server_error", "insufficient_system_resource"
]
"""The outcomes that a finish reason can stand for."""

_Limit = Annotated[int, Field(ge=1, le=2**40)]


class ResponseLimits(Section):
    """The most that is read of one response. A larger one is aborted: the failure `too_large`.

    Example::

        [endpoint]
        kind = "openai"
        base_url = "http://127.0.0.1:8000/v1"
        model = "m"
        limits = { body = 1_000_000_000 }
    """

    body: _Limit = 256 * 2**20
    """Bytes of the body after decompression."""
    line: _Limit = 32 * 2**20
    """Bytes of one event of a stream."""
    text: _Limit = 32 * 2**20
    """Characters of reasoning and answer together."""
    head: _Limit = 100 * 2**10
    """Bytes of the status line and the headers; `connection_lost` if there are more."""
    nesting: Annotated[int, Field(ge=8, le=400)] = 200
    """Levels of JSON; `malformed_stream` or `malformed_json` if there are more."""


class ReadingTerms(NamedTuple):
    """How responses are read.

    `strict`: a response with an anomaly is a failure. `finish_reasons`: outcomes of finish reasons
    that the harness does not know.
    """

    strict: bool = False
    limits: ResponseLimits = ResponseLimits()
    finish_reasons: Mapping[str, FinishMeaning] = {}


DEFAULT_TERMS = ReadingTerms()
