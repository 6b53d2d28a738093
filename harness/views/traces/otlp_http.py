"""Spans to a collector: OTLP over HTTP, in protobuf, with an exact account of what arrived.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The SDK's encoder makes the messages. They are
posted here and not by the SDK's exporter, because that takes a partial success or a redirect for
a whole one, retries for longer than a benchmark can wait, and does not say what was lost.
A collector that is dead or slow costs at most `OtlpTarget.patience` seconds of waiting: nothing is
sent twice, and the first batch that fails ends the sending. No error tells a header's value.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection, responses
from typing import NamedTuple
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from harness import __version__
from harness.errors import InputError
from harness.views.traces import semconv
from harness.views.traces.attributes import Attributes
from harness.views.traces.resource import parse_pairs
from harness.views.traces.spans import Kind, Span

BATCH = 512
"""Spans a request."""

_PATH = "/v1/traces"
_RESPONSE_LIMIT = 65_536
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
_KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_SCOPE = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


@dataclass(frozen=True, repr=False)
class OtlpTarget:
    """Where spans go; shown without what may be secret, the query and the headers.

    Seconds of real time: `connect` for the check, `timeout` for one request, `patience` for all
    waiting of one `send`.
    """

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    connect: float = 1.0
    timeout: float = 5.0
    patience: float = 15.0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path.partition('?')[0]}"

    __repr__ = __str__


class Delivery(NamedTuple):
    """How many spans the collector took, how many it did not, and why not."""

    delivered: int
    undelivered: int
    problem: str | None


def switched_off(environment: Mapping[str, str]) -> str | None:
    """Return the setting that forbids sending, such as `OTEL_SDK_DISABLED=true`; None without."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED=true"
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return "OTEL_TRACES_EXPORTER=none"
    return None


def open_target(url: str | None, environment: Mapping[str, str]) -> OtlpTarget | None:
    """Return where to send spans, None for nowhere.

    `url` (`--otlp`) wins over OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which is taken as it is, and
    that over the base URL OTEL_EXPORTER_OTLP_ENDPOINT; `/v1/traces` is added to the base URL, and
    to `url` where it lacks that. Headers: OTEL_EXPORTER_OTLP_TRACES_HEADERS, else
    OTEL_EXPORTER_OTLP_HEADERS. An empty variable counts as absent; see `switched_off` for those
    that forbid. Raises InputError.
    https://opentelemetry.io/docs/specs/otel/protocol/exporter/
    """
    if switched_off(environment):
        return None
    if url is not None:
        return _target("--otlp", url, environment, append=True)
    for variable, append in (
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", True),
    ):
        if environment.get(variable):
            return _target(variable, environment[variable], environment, append)
    return None


def _target(where: str, url: str, environment: Mapping[str, str], append: bool) -> OtlpTarget:
    way_out = "write http://host:port, for example http://127.0.0.1:4318"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = parts.hostname or ""
        host.encode("idna")
    except ValueError:
        raise InputError(f"{where}: not a URL; {way_out}") from None
    if "@" in parts.netloc:
        raise InputError(
            f"{where}: a URL with a user or password; put them in OTEL_EXPORTER_OTLP_HEADERS"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{where}: not an http or https URL; {way_out}")
    path = parts.path
    if append and not path.rstrip("/").endswith(_PATH):
        path = path.rstrip("/") + _PATH
    path = path or "/"
    if not re.fullmatch(r"[\x21-\x7e]+", path + parts.query):
        raise InputError(f"{where}: a URL with spaces or other special characters; {way_out}")
    return OtlpTarget(
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=f"{path}?{parts.query}" if parts.query else path,
        headers=_headers(environment),
    )


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        if environment.get(variable):
            headers = parse_pairs(variable, environment[variable])
            for place, (name, value) in enumerate(headers.items(), 1):
                if not (_TOKEN.match(name) and _FIELD_VALUE.match(value)):
                    raise InputError(
                        f"{variable}: entry {place} is no HTTP header; use plain ASCII, "
                        "percent-encoded where it is special"
                    )
            return {name.lower(): value for name, value in headers.items()}
    return {}


def check(target: OtlpTarget) -> str | None:
    """Open one TCP connection; return in one line why that failed, None when it did not."""
    try:
        socket.create_connection((target.host, target.port), target.connect).close()
    except OSError as error:
        return f"{target}: {_reason(error, target.connect)}"
    return None


def send(target: OtlpTarget, spans: Sequence[Span], resource: Attributes) -> Delivery:
    """Send spans in batches and say how many arrived. Raises nothing that a collector can cause.

    Any span without an acknowledgement counts as undelivered, whether or not it was received.
    """
    delivered, waited = 0, 0.0
    problem: str | None = None
    connection = _connection(target)
    try:
        for start, body in _bodies(spans, resource):
            timeout = min(target.timeout, target.patience - waited)
            if timeout <= 0:
                problem = f"{target}: too slow, {waited:.0f} s of waiting in all"
                break
            began = time.monotonic()
            rejected, trouble = _post(connection, target, body, timeout)
            waited += time.monotonic() - began
            problem = problem or trouble
            if rejected is None:
                break
            delivered += len(spans[start : start + BATCH]) - rejected
    finally:
        connection.close()
    return Delivery(delivered, len(spans) - delivered, problem)


def _connection(target: OtlpTarget) -> HTTPConnection:
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    return kind(target.host, target.port, timeout=target.timeout)


def _post(
    connection: HTTPConnection, target: OtlpTarget, body: bytes, timeout: float
) -> tuple[int | None, str | None]:
    """Return how many spans were rejected, None when the answer is no success, and the problem."""
    headers = {
        **target.headers,
        "content-type": "application/x-protobuf",
        "user-agent": f"harness/{__version__}",
    }
    late = threading.Event()
    try:
        with _cut_after(connection, timeout, late):
            connection.request("POST", target.path, body, headers)
            response = connection.getresponse()
            answer = response.read(_RESPONSE_LIMIT)
            whole = not response.read(1) and not response.length
        if late.is_set():  # http.client takes a cut within the headers for their end
            raise TimeoutError
    except (OSError, HTTPException) as error:
        why = _reason(TimeoutError() if late.is_set() else error, timeout)
        return None, f"{target}: {why}"
    if not 200 <= response.status < 300:
        return None, f"{target}: answered {response.status} {responses.get(response.status, '')}"
    if not whole:
        return None, f"{target}: its answer is cut, or far too long"
    try:
        rejected = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    except DecodeError:
        return None, f"{target}: its answer is not OTLP; check the address"
    return rejected, f"{target}: took a part of the spans only" if rejected else None


@contextlib.contextmanager
def _cut_after(connection: HTTPConnection, timeout: float, late: threading.Event) -> Iterator[None]:
    """Connect if need be; after `timeout` seconds set `late` and cut the connection.

    A socket's own timeout starts anew with every byte, so a slow sender would never meet it.
    """
    if connection.sock is None:
        connection.timeout = timeout
        connection.connect()
    sock: socket.socket = connection.sock
    sock.settimeout(timeout)

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):  # it has ended meanwhile
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, HTTPException):
        return (
            "hangs up or does not speak HTTP; OTLP over HTTP is usually on port 4318 (4317 is gRPC)"
        )
    return str(error.strerror).lower() if isinstance(error, OSError) else "failed"


def _bodies(spans: Sequence[Span], resource: Attributes) -> Iterator[tuple[int, bytes]]:
    """Encode batch after batch, each when its turn comes: (index of its first span, message)."""
    made_by = Resource(resource, semconv.SCHEMA_URL)
    contexts: dict[str, SpanContext] = {}
    for start in range(0, len(spans), BATCH):
        batch = [_readable(span, made_by, contexts) for span in spans[start : start + BATCH]]
        yield start, encode_spans(batch).SerializeToString()


def _readable(span: Span, resource: Resource, contexts: dict[str, SpanContext]) -> ReadableSpan:
    context = contexts[span.span_id] = _context(span.trace_id, span.span_id)
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=None if span.parent_id is None else contexts[span.parent_id],
        resource=resource,
        attributes=span.attributes,
        events=[Event(event.name, timestamp=event.time) for event in span.events],
        links=[Link(_context(link.trace_id, link.span_id)) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.UNSET)
        if span.error is None
        else Status(StatusCode.ERROR, span.error),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)
