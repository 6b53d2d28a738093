"""The collector for spans or metrics, from the command line and the standard OTEL_* variables.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
`OTEL_EXPORTER_OTLP_TRACES_X` has priority over `OTEL_EXPORTER_OTLP_X`, likewise for METRICS, and an
empty variable counts as absent. No error shows the value of a header.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from harness.records.errors import InputError
from harness.telemetry.resource import first_set, parse_pairs

Signal = Literal["traces", "metrics"]
Protocol = Literal["http", "grpc"]
TIMEOUT = 10.0
"""Seconds for one request, the default of the specification."""

_HEADERS: dict[Protocol, re.Pattern[str]] = {
    "http": re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+:[\t\x20-\x7e]*"),  # RFC 9110, section 5.6.2
    "grpc": re.compile(r"[0-9a-z_.-]+(?<!-bin):[\x20-\x7e]*"),  # gRPC over HTTP2, "Requests"
}
_SCHEMES = {"http": False, "https": True, "grpc": False, "grpcs": True}
"""Scheme of a URL -> whether it uses TLS."""
_WAY_OUT = "write http://host:port, for example http://127.0.0.1:4318, or grpc://127.0.0.1:4317"


class Certificates(NamedTuple):
    """The certificates for TLS: as a context, and as the PEM texts of which it was made."""

    context: ssl.SSLContext
    trusted: bytes | None
    chain: bytes | None
    key: bytes | None


@dataclass(frozen=True, repr=False)
class OtlpTarget:
    """The collector for one signal. Its text omits the query and the headers, which may be secret.

    `path`: of a request over HTTP; with gRPC it only names the signal. `timeout`: of one request,
    in real seconds. `gzip`: whether bodies are compressed. `tls`: whether the connection is
    encrypted; `certificates`: None for those of the system.
    """

    protocol: Protocol
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT
    gzip: bool = False
    tls: bool = False
    certificates: Certificates | None = None
    signal: Signal = "traces"

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        secure = "s" if self.tls else ""
        return f"{self.protocol}{secure}://{self.authority}{self.path.partition('?')[0]}"

    __repr__ = __str__


def switched_off(environment: Mapping[str, str], signal: Signal = "traces") -> str | None:
    """Return the setting that disables sending, such as `OTEL_SDK_DISABLED=true`, or None."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED=true"
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = environment.get(name, "").strip().lower()
    if exporters and "otlp" not in [one.strip() for one in exporters.split(",")]:
        return f"{name}={exporters}"
    return None


def open_target(
    url: str | None,
    environment: Mapping[str, str],
    flag: str = "--otlp",
    signal: Signal = "traces",
) -> OtlpTarget | None:
    """Return the collector for a signal, or None.

    In order of priority: `url` (from the option `flag`), OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which
    is used unchanged, and the base URL OTEL_EXPORTER_OTLP_ENDPOINT. The signal's path is appended
    to the base URL, and to `url` if it is missing there. Headers, timeout (milliseconds),
    compression, certificates come from their variables; the protocol too, but the scheme of `url`
    has priority. `switched_off` lists the variables that disable sending. Raises InputError.
    """
    if switched_off(environment, signal):
        return None
    variables = _Variables(environment, signal)
    if url is not None:
        return _target(flag, url, variables, append=True, protocol="http")
    name, url = variables.find("ENDPOINT")
    if not url:
        return None
    protocol = variables.choice("PROTOCOL", "http/protobuf", "grpc")
    is_base = name == "OTEL_EXPORTER_OTLP_ENDPOINT"
    return _target(name, url, variables, is_base, "grpc" if protocol == "grpc" else "http")


def _target(
    where: str, url: str, variables: _Variables, append: bool, protocol: Protocol
) -> OtlpTarget:
    parts = _parts(where, url.strip(), protocol, variables)
    if parts.scheme.startswith("grpc"):
        protocol = "grpc"
    tls, path = _SCHEMES[parts.scheme], f"/v1/{variables.signal}"
    if protocol == "http":
        base = parts.path.rstrip("/")
        for other in ("/v1/traces", "/v1/metrics") if append else ():
            base = base.removesuffix(other)
        path = base + path if append else parts.path or "/"
        path += f"?{parts.query}" if parts.query else ""
    if not re.fullmatch(r"[\x21-\x7e]+", path):
        raise InputError(f"{where}: a URL with spaces or other special characters; {_WAY_OUT}")
    default = 4317 if protocol == "grpc" else 443 if tls else 80
    return OtlpTarget(
        protocol=protocol,
        host=parts.hostname or "",
        port=parts.port or default,
        path=path,
        headers=variables.headers(protocol),
        timeout=variables.timeout(),
        gzip=variables.choice("COMPRESSION", "none", "gzip") == "gzip",
        tls=tls,
        certificates=variables.certificates() if tls else None,
        signal=variables.signal,
    )


def _parts(where: str, url: str, protocol: Protocol, variables: _Variables) -> SplitResult:
    """Return the parts of a URL that can be used. Raises InputError."""
    if protocol == "grpc" and "://" not in url:  # allowed for gRPC, which knows INSECURE
        insecure = variables.choice("INSECURE", "true", "false") == "true"
        url = f"{'grpc' if insecure else 'grpcs'}://{url}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        is_name = re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+", host.encode("idna").decode())
    except ValueError:
        raise InputError(f"{where}: not a URL; {_WAY_OUT}") from None
    if "@" in parts.netloc:
        raise InputError(
            f"{where}: a URL with a user or password; put them in OTEL_EXPORTER_OTLP_HEADERS"
        )
    if parts.scheme not in _SCHEMES or not is_name:
        raise InputError(f"{where}: not an http, https, grpc or grpcs URL; {_WAY_OUT}")
    return parts


class _Variables(NamedTuple):
    """The variables of one signal, each also as that of all signals."""

    environment: Mapping[str, str]
    signal: Signal

    def find(self, what: str) -> tuple[str, str]:
        own = f"OTEL_EXPORTER_OTLP_{self.signal.upper()}_{what}"
        return first_set(self.environment, own, f"OTEL_EXPORTER_OTLP_{what}")

    def choice(self, what: str, *values: str) -> str:
        name, text = self.find(what)
        if text.lower() not in ("", *values):
            raise InputError(f"{name}: value is not supported; write {' or '.join(values)}")
        return text.lower()

    def headers(self, protocol: Protocol) -> dict[str, str]:
        name, text = self.find("HEADERS")
        headers = {key.lower(): value for key, value in parse_pairs(name, text).items()}
        for place, header in enumerate(headers.items(), 1):
            if not _HEADERS[protocol].fullmatch(":".join(header)):
                raise InputError(
                    f"{name}: entry {place} is not a header of {protocol}; use plain ASCII, "
                    "with special characters percent-encoded"
                )
        return headers

    def timeout(self) -> float:
        name, text = self.find("TIMEOUT")
        if text and not re.fullmatch("0*[1-9][0-9]{0,9}", text):
            raise InputError(f"{name}: not a number of milliseconds; write 10000 for ten seconds")
        return int(text) / 1000 if text else TIMEOUT

    def certificates(self) -> Certificates | None:
        name, trusted = self.find("CERTIFICATE")
        own, chain = self.find("CLIENT_CERTIFICATE")
        _, key = self.find("CLIENT_KEY")
        if not trusted and not chain:
            return None
        try:
            context = ssl.create_default_context(cafile=trusted or None)
            root = Path(trusted).read_bytes() if trusted else None
            if not chain:
                return Certificates(context, root, None, None)
            name = own
            context.load_cert_chain(chain, key or None)
            texts = Path(chain).read_bytes(), Path(key or chain).read_bytes()
            return Certificates(context, root, *texts)
        except OSError as error:
            is_tls = isinstance(error, ssl.SSLError)
            why = "no certificate in it" if is_tls else str(error.strerror).lower()
            raise InputError(f"{name}: cannot be read ({why}); name a PEM file") from None
