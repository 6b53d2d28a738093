"""The bodies of refusals: as they are kept in records, and the message in them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from harness.records.redaction import Redactor, escape_controls

LONGEST = 500
"""The most characters of a body that a record keeps."""

_LONGEST_MESSAGE = 200
_MESSAGE = re.compile(r'"(?:message|detail|error|msg)"\s*:\s*"((?:[^"\\]|\\.)+)')
_TAG = re.compile(r"<(?:style|script).*?</(?:style|script)>|<[^>]*>", re.DOTALL)

QUOTA_CODES = frozenset(
    {
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
        "exceeded_current_quota_error",
    }
)  # fmt: skip
"""Codes of an error object that mean a used-up quota, which no wait restores."""


def kept_body(text: str, redactor: Redactor) -> str | None:
    """Return a text of a server as a record keeps it; None for a blank one."""
    if not text:
        return None
    return escape_controls(redactor.text(text.strip()))[:LONGEST].strip() or None


def message_in(body: str) -> str:
    """Return the message in a body that a record keeps, which may be cut; short, in one line."""
    found = _MESSAGE.search(body)
    if found is None:
        text = _TAG.sub(" ", body.replace("\\n", " "))
    else:
        text = found[1]
        with contextlib.suppress(ValueError):
            text = json.loads(f'"{text}"')
    text = " ".join(escape_controls(" ".join(text.split())).split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def is_quota_exhausted(body: bytes) -> bool:
    """Return whether an error object says that the quota of the account is used up."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return any(code in QUOTA_CODES for code in _codes(found))


def _codes(found: Any) -> Iterator[str]:
    error = found.get("error") if isinstance(found, dict) else None
    for place in (found, error):
        if isinstance(place, dict):
            yield from (
                value for name in ("code", "type") if isinstance(value := place.get(name), str)
            )
