"""The base URL of an API: which texts are one."""

from __future__ import annotations

from urllib.parse import urlsplit

BASE_URL_EXPECTED = 'must be a URL such as "https://api.example.com/v1"'


def is_base_url(text: str) -> bool:
    """Return whether HTTP requests can be sent to the paths below this URL."""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return usable and text.isprintable() and " " not in text


def may_hold_secret(text: str) -> bool:
    """Return whether a text may contain a user, a password or a key, which no message shows."""
    return "@" in text or "?" in text
