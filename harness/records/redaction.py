"""Removes the secrets of a run from texts that come from outside.

Servers and proxies repeat keys in error messages, ids and headers, as they are or encoded.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"

_SHORTEST = 4
"""A shorter text is a placeholder, not a secret."""
_LONG = 8
"""A shorter secret is replaced only where it stands alone, as it may be part of another word."""


class Redactor:
    """Replaces secrets in texts: plain, in base64, URL-encoded, or escaped as in JSON.

    The beginning of a secret at the end of a text is replaced too, since texts are cut.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        known |= {part for secret in known for part in secret.split() if len(part) >= _LONG}
        forms = {form for secret in known for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._begins = {form[:_LONG] for form in self._forms}
        self._longest = max(map(len, self._forms), default=0)
        short = sorted((re.escape(one) for one in known if len(one) < _LONG), key=len, reverse=True)
        self._short = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(short)})(?![A-Za-z0-9])")
        self._has_short = bool(short)

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if not text:
            return text
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        if self._has_short:
            text = self._short.sub(REDACTED, text)
        tail = text[-self._longest :] if self._longest else ""
        for begin in self._begins:
            if begin in tail:
                return self._without_begin(text)
        return text

    def optional(self, text: str | None) -> str | None:
        """Return `text` without secrets; None for None."""
        return None if text is None else self.text(text)

    def held_from(self, text: str) -> int:
        """Return where the last part of `text` begins that more text can make a secret.

        This is the length of `text` if there is none.
        """
        if self._has_short:  # such a secret ends where the word ends
            return len(text) - len(re.split(r"\s", text)[-1])
        tail = text[-self._longest :] if self._longest else ""
        for at in range(len(tail)):
            if any(form.startswith(tail[at:]) for form in self._forms):
                return len(text) - len(tail) + at
        return len(text)

    def _without_begin(self, text: str) -> str:
        for form in self._forms:
            for length in range(min(len(form), len(text)), _LONG - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + REDACTED
        return text


NO_SECRETS = Redactor()


def escape_controls(text: str) -> str:
    """Return `text` with every character that does not print as an escape sequence."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms of a secret that are long enough to be replaced anywhere."""
    found = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        re.sub("%..", lambda one: one[0].lower(), quote(secret, safe="")),
        json.dumps(secret)[1:-1],
        json.dumps(secret)[1:-1].replace("/", "\\/"),
    }
    for before in range(3):  # base64 looks different after 0, 1 and 2 bytes
        encoded = base64.b64encode(b"\0" * before + secret.encode()).decode()
        inner = encoded[-(-8 * before // 6) : 8 * (before + len(secret.encode())) // 6]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return (form for form in found if len(form) >= _LONG)
