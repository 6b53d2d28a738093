"""The base URL of an API: which texts are one."""

from __future__ import annotations

import ipaddress
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


def is_on_this_machine(url: str) -> bool:
    """Return whether the host of a URL is this machine, whose requests cost no money."""
    host = urlsplit(url).hostname or ""
    if is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def is_ip_address(host: str) -> bool:
    """Return whether a host is given as an address and not as a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def may_hold_secret(text: str) -> bool:
    """Return whether a text may contain a user, a password or a key, which no message shows."""
    return "@" in text or "?" in text
