"""The meaning of a collector's answer, over HTTP and gRPC alike.

https://opentelemetry.io/docs/specs/otlp/. No text shows what the collector said or the value of a
header, which may be secret.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness.telemetry.otlp_target import OtlpTarget

RESPONSE_LIMIT = 65_536
"""The most bytes of an answer that are read."""


class DeliveryClock(NamedTuple):
    """The clock of a delivery: seconds, how to sleep, and how to limit an operation of a socket."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    limit: Callable[[socket.socket, float], None] = socket.socket.settimeout


REAL_WAITS = DeliveryClock()


class CollectorReply(NamedTuple):
    """The result of one request.

    `verdict`: `taken` (except `rejected` of its items), `refused` (this request will never be
    accepted), `hopeless` (no request will be accepted), `unsupported` (hopeless, because the
    collector does not accept this signal) or `later` (a retry may be accepted). `retry_after`:
    seconds that the collector asks to wait, or None. `problem`: in one line.
    """

    verdict: Literal["taken", "refused", "hopeless", "unsupported", "later"]
    rejected: int = 0
    retry_after: float | None = None
    problem: str | None = None


class CollectorConnection(Protocol):
    """A connection to a collector, which is opened when it is needed."""

    def post(self, body: bytes, seconds: float) -> CollectorReply:
        """Send a request and read its answer within `seconds`. Raises nothing."""

    def close(self) -> None:
        """Close the connection; `post` opens it again."""


def connect(target: OtlpTarget, clock: DeliveryClock = REAL_WAITS) -> CollectorConnection:
    """Return the connection to a collector. Nothing is sent."""
    if target.protocol == "grpc":
        from harness.telemetry.otlp_grpc import GrpcConnection

        return GrpcConnection(target)
    from harness.telemetry.otlp_http import HttpConnection

    return HttpConnection(target, clock)


def read_reply(target: OtlpTarget, body: bytes) -> CollectorReply:
    """Return what the body of a success means; it is the same message for all signals."""
    try:
        # In the answers for traces and metrics, the fields have the same numbers and types.
        rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
    except DecodeError:
        return not_otlp(target)
    partly = f"{target}: accepted only a part" if rejected > 0 else None
    return CollectorReply("taken", rejected=max(0, rejected), problem=partly)


def not_otlp(target: OtlpTarget) -> CollectorReply:
    """Return the reply for a success whose body is not an answer to a collector's client."""
    return CollectorReply(
        "hopeless", problem=f"{target}: its answer is not OTLP; check the address"
    )


def later(target: OtlpTarget, problem: str, retry_after: float | None = None) -> CollectorReply:
    """Return the reply that allows a retry."""
    return CollectorReply("later", 0, retry_after, f"{target}: {problem}")


def reason(error: BaseException, seconds: float, hint: str = "") -> str:
    """Return the system's reason for an error; `seconds`: the timeout. `hint`: if it hangs up."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError) and not error.errno:
        return f"no answer within {seconds:.3g} s"
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return str(error.strerror or error).lower()
    if isinstance(error, OSError) and error.errno:
        is_cut = isinstance(error, ConnectionResetError | BrokenPipeError)
        return os.strerror(error.errno).lower() + (hint if is_cut else "")
    return f"hangs up or does not speak HTTP{hint}"
