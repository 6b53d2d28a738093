"""Parses HTTP/1.1 responses from bytes that arrive in arbitrary pieces."""

from __future__ import annotations

from collections.abc import Callable

import httptools
import httpx2

from harness.config.response_reading import DEFAULT_TERMS
from harness.transports.unasked import UnaskedResponseError, check_asked


def never() -> bool:
    """Return False."""
    return False


class ResponseParser:
    """Parses the responses on one connection, one after another.

    `status`: 0 until the headers are complete. `complete`: the whole response has arrived.
    `reusable`: the connection can be used for another request after this response. `longest_head`:
    the number of bytes that the headers may have. `is_early`: returns whether the peer has not
    acknowledged the whole request yet; it is called when a response begins.
    """

    def __init__(
        self,
        longest_head: int = DEFAULT_TERMS.limits.head,
        is_early: Callable[[], bool] = never,
    ) -> None:
        self.longest_head = longest_head
        self._is_early = is_early
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,  # Transfer-Encoding counts: RFC 9112, section 6.3
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.restart()

    def restart(self) -> None:
        """Prepare for the next response."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = False
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._began_early = False
        self._unasked = ""

    def feed(self, received: bytes) -> None:
        """Parse received bytes; no bytes mean the end of the connection.

        Raises RemoteProtocolError if they are not valid HTTP or the response is incomplete, and
        UnaskedResponseError if no request asked for the response.
        """
        problem = ""
        if received:
            try:
                self._parser.feed_data(received)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self.reusable = False
                problem = "" if self.complete else f"invalid HTTP: {error} {received[:4]!r}"
        else:
            problem = self._end()
        if not self.status:
            self._head_bytes += len(received)
        if self._head_bytes > self.longest_head:
            problem = "the headers are too long"
        if self._unasked:
            raise UnaskedResponseError(self._unasked)
        if problem:  # not in the handler above, where the cause would be the parser's exception
            raise httpx2.RemoteProtocolError(problem)

    def take_body(self) -> bytes:
        """Return the bytes of the body that have arrived since the last call."""
        body = b"".join(self._body)
        self._body.clear()
        return body

    def _end(self) -> str:
        names = {name.lower() for name, _ in self.headers}
        if not self.status:
            return "the server disconnected without a response"
        if names & {b"content-length", b"transfer-encoding"}:
            return "the server disconnected within the body"
        self.complete = True
        return ""

    def on_message_begin(self) -> None:
        """Note how early a response begins, or that one follows the response (httptools)."""
        if self.status:
            self.reusable = False
        else:
            self._began_early = self._is_early()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header, but not those after the body (httptools)."""
        if not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Store the status; skip an informational response (httptools)."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
        elif not self.status:
            names, self._head_bytes = [], 0
            for name, value in self.headers:
                names.append(name.lower())
                self._head_bytes += len(name) + len(value) + 4
            is_clear = not (b"content-length" in names and b"transfer-encoding" in names)
            self.status = status
            self._unasked = check_asked(status, self._began_early)
            self.reusable = is_clear and self._parser.should_keep_alive() and not self._unasked

    def on_body(self, part: bytes) -> None:
        """Add a part of the body (httptools)."""
        if not self.complete:
            self._body.append(part)

    def on_message_complete(self) -> None:
        """Note the end of the response (httptools)."""
        self.complete = self.status != 0
