"""The rule that tells the response to a request from one that was on its way before.

A kept connection can bring a response that no request asked for: a proxy answers twice, or an
earlier response goes on. The peer's TCP acknowledges with each packet what it has received. So the
response to a request arrives with the acknowledgement of the whole request, or after it. A
successful response that begins earlier is not the answer. A refusal may come earlier, because a
server does not have to read a request that it refuses.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import Protocol

import httpx2


class UnaskedResponseError(httpx2.RemoteProtocolError):
    """A response, or bytes after one, that no request asked for."""


class HasFileNumber(Protocol):
    """A socket, or what an event loop gives in its place."""

    def fileno(self) -> int:
        """Return the number of the file."""
        ...


def has_unacknowledged(sock: HasFileNumber) -> bool:
    """Return whether the peer has not acknowledged all bytes that were sent. Linux alone knows."""
    if sys.platform != "linux":
        return False
    try:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return False
    return any(queued)


def check_asked(status: int, began_early: bool) -> str:
    """Return why a response is not the answer to its request; an empty text if it can be.

    `began_early`: its first byte arrived before the peer had acknowledged the whole request.
    """
    if began_early and status < 300:
        return "the response began before the server had received the request"
    return ""
