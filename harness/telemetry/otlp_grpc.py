"""A connection to a collector, by OTLP over gRPC, with grpcio's channel.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc. A request is the same message as over HTTP.
The SDK's exporter is not used, because it does not report a partial success.
"""

from __future__ import annotations

import os
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from harness import __version__
from harness.telemetry.collector_reply import RESPONSE_LIMIT, CollectorReply, later, read_reply
from harness.telemetry.otlp_target import OtlpTarget, Signal

_METHODS: dict[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", RESPONSE_LIMIT),
    ("grpc.primary_user_agent", f"harness/{__version__}"),
)
_RETRYABLE = (
    grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
)  # fmt: skip
"""The protocol's own list; RESOURCE_EXHAUSTED too, if the answer says when to retry."""
_TOO_LONG = "larger than max"
"""In the details when an answer is longer than RESPONSE_LIMIT: the request may have arrived."""
_HOPELESS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class GrpcConnection:
    """A channel; implements CollectorConnection."""

    def __init__(self, target: OtlpTarget) -> None:
        self._target = target
        self._channel: grpc.Channel | None = None

    def close(self) -> None:
        """Close the channel; `post` opens it again."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def post(self, body: bytes, seconds: float) -> CollectorReply:
        """Send a request and read its answer within `seconds`. Raises nothing."""
        if self._channel is None:
            self._channel = _channel(self._target)
        export: Any = self._channel.unary_unary(_METHODS[self._target.signal])
        seconds = min(seconds, self._target.timeout)
        try:
            # The deadline of gRPC covers the connection, the request and the whole answer.
            answer = export(body, timeout=seconds, metadata=tuple(self._target.headers.items()))
            return read_reply(self._target, answer)
        except grpc.RpcError as error:
            self.close()
            return self._failed(error, seconds)

    def _failed(self, error: Any, seconds: float) -> CollectorReply:
        code, target = error.code(), self._target
        said = f"answered {code.name}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            said = f"no answer within {seconds:.3g} s"
        elif code is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
            said = self._unavailable(str(error.details()).lower())
        wait = _retry_after(error)
        is_busy = code is grpc.StatusCode.RESOURCE_EXHAUSTED and (
            wait is not None or _TOO_LONG in str(error.details())
        )
        if code in _RETRYABLE or is_busy:
            return later(target, said, wait)
        problem = f"{target}: {said}"
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return CollectorReply("unsupported", problem=problem)
        return CollectorReply("hopeless" if code in _HOPELESS else "refused", problem=problem)

    def _unavailable(self, details: str) -> str:
        """Return the reason of gRPC itself; the collector has said nothing."""
        if "connection refused" in details:
            return "connection refused"
        if "certificate" in details:
            return "its certificate is not trusted"
        if self._target.port == 4318:
            return "no gRPC; port 4318 is usually OTLP over HTTP: write http://host:4318"
        return "hangs up or does not speak gRPC"


def _channel(target: OtlpTarget) -> grpc.Channel:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines would be among those of a run
    compression = grpc.Compression.Gzip if target.gzip else grpc.Compression.NoCompression
    if not target.tls:
        return grpc.insecure_channel(target.authority, _OPTIONS, compression)
    given = target.certificates
    credentials = grpc.ssl_channel_credentials(
        given and given.trusted, given and given.key, given and given.chain
    )
    return grpc.secure_channel(target.authority, credentials, _OPTIONS, compression)


def _retry_after(error: Any) -> float | None:
    """Return the seconds of the RetryInfo in the details of a status."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
                    return max(0.0, seconds)
        except DecodeError:
            return None
    return None
