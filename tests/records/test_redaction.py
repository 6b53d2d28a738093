"""No secret passes the redactor, however a server repeats it, and other texts stay."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.error_bodies import LONGEST, is_quota_exhausted, kept_body, message_in
from harness.records.redaction import NO_SECRETS, REDACTED, Redactor

SECRET = "sk-or/v1+8f3a9c0de1b2=="
PARTS = ("8f3a9c0d", "9c0de1b2")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "repeated",
    [
        lambda key: key,
        lambda key: f"Bearer {key}",
        lambda key: quote(key),
        lambda key: quote_plus(key),
        lambda key: quote(key, safe="").lower(),
        lambda key: json.dumps({"key": key}),
        lambda key: json.dumps({"key": key}).replace("/", "\\/"),
        *(lambda key, before=before: b64(f"{before}{key}!") for before in ("", "u", "us", "usr")),
        lambda key: base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
        lambda key: f"a{key}b{key}c",
        lambda key: f"cut: {key[:14]}",
    ],
)
def test_a_repeated_secret_is_replaced(repeated: Callable[[str], str]) -> None:
    text = Redactor([SECRET]).text(f"no: {repeated(SECRET)}")
    assert REDACTED in text
    assert not any(part in text for part in PARTS)
    for before in range(3):
        assert b64("x" * before + SECRET)[4:-4] not in text


def test_of_a_header_the_part_behind_the_scheme_is_a_secret_too() -> None:
    assert Redactor([f"Bearer {SECRET}"]).text(f"bad key {SECRET}.") == f"bad key {REDACTED}."


def test_a_short_secret_is_replaced_where_it_stands_alone() -> None:
    redactor = Redactor(["test", "abc"])
    assert redactor.text("key test: latest test_case, abc") == (
        f"key {REDACTED}: latest {REDACTED}_case, abc"
    )


@given(st.text(max_size=60))
def test_other_texts_stay(text: str) -> None:
    assert NO_SECRETS.text(text) == text
    assert Redactor(["a-secret-that-no-text-has"]).text(text) == text


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=8, max_size=40),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_secret_passes(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret]).text(before + secret + after).replace(REDACTED, "\n")


def test_a_body_is_kept_short_without_controls_and_secrets() -> None:
    body = f"\x1b[31mno\x00\nline {SECRET} " + "x" * 999
    found = kept_body(body, Redactor([SECRET]))
    assert found is not None
    assert found.startswith("\\x1b[31mno\\x00\\nline [redacted] xxx")
    assert len(found) == LONGEST
    assert kept_body(" \n", NO_SECRETS) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "too long: 9 > 8", "code": 400}}', "too long: 9 > 8"),
        ('{"error": {"code": 4, "message": "a \\"quoted\\" text"}}', 'a "quoted" text'),
        ('{"object":"error","message":"not\\u001b[1m so"}', "not\\x1b[1m so"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"error": "model \\"m\\" not found"}', 'model "m" not found'),
        ('{"error": {"message": "cut in the mid', "cut in the mid"),
        ("<html><head><title>502</title></head>\\n<body>nginx</body>", "502 nginx"),
        ("plain", "plain"),
        ("x" * 500, "x" * 200 + "…"),
    ],
)
def test_the_message_in_a_body_is_found(body: str, message: str) -> None:
    assert message_in(body) == message


@pytest.mark.parametrize(
    ("body", "used_up"),
    [
        (b'{"error": {"code": "insufficient_quota"}}', True),
        (b'{"error": {"type": "insufficient_quota", "code": null}}', True),
        (b'{"code": "billing_hard_limit_reached"}', True),
        (b'{"error": {"code": "rate_limit_exceeded"}}', False),
        (b'{"error": "insufficient_quota"}', False),
        (b"[1]", False),
        (b"", False),
        (b"[" * 99999, False),
        (b"\xff", False),
    ],
)
def test_a_used_up_quota_is_told_apart(body: bytes, used_up: bool) -> None:
    assert is_quota_exhausted(body) == used_up
