"""The collector for spans, from the command line and the standard OTEL_* variables.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
`OTEL_EXPORTER_OTLP_TRACES_X` has priority over `OTEL_EXPORTER_OTLP_X`, and an empty variable counts
as absent. No error shows the value of a header.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from harness.records.errors import InputError
from harness.telemetry.resource import first_set, parse_pairs

TRACES_PATH = "/v1/traces"
TIMEOUT = 10.0
"""Seconds for one request, the default of the specification."""

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*")  # RFC 9110, section 5.6.2


@dataclass(frozen=True, repr=False)
class OtlpTarget:
    """The collector for spans. Its text omits the query and the headers, which may be secret.

    `connect`: timeout of the check, `timeout`: of one request, in real seconds. `gzip`: whether
    bodies are compressed. `tls`: the TLS context for https, None for the system's default.
    """

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    connect: float = 1.0
    timeout: float = TIMEOUT
    gzip: bool = False
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """The URL of a request; its query may be secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def __str__(self) -> str:
        return self.url.partition("?")[0]

    __repr__ = __str__


def switched_off(environment: Mapping[str, str]) -> str | None:
    """Return the setting that disables sending, such as `OTEL_SDK_DISABLED=true`, or None."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED=true"
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporters and "otlp" not in [name.strip() for name in exporters.split(",")]:
        return f"OTEL_TRACES_EXPORTER={exporters}"
    return None


def open_target(
    url: str | None, environment: Mapping[str, str], flag: str = "--otlp"
) -> OtlpTarget | None:
    """Return the collector for spans, or None.

    In order of priority: `url` (from the option `flag`), OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which
    is used unchanged, and the base URL OTEL_EXPORTER_OTLP_ENDPOINT. `/v1/traces` is appended to the
    base URL, and to `url` if it is missing there. Headers, timeout (milliseconds), compression,
    certificate, client certificate and key, and protocol come from their variables. `switched_off`
    lists the variables that disable sending. Raises InputError.
    """
    if switched_off(environment):
        return None
    if url is not None:
        return _target(flag, url, environment, append=True)
    name, url = _variable("ENDPOINT", environment)
    return _target(name, url, environment, append="TRACES" not in name) if url else None


def _target(where: str, url: str, environment: Mapping[str, str], append: bool) -> OtlpTarget:
    import httpx2  # slow, and only needed with a collector

    way_out = "write http://host:port, for example http://127.0.0.1:4318"
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
        httpx2.URL(url.strip())
    except (ValueError, httpx2.InvalidURL):
        raise InputError(f"{where}: not a URL; {way_out}") from None
    if "@" in parts.netloc:
        raise InputError(
            f"{where}: a URL with a user or password; put them in OTEL_EXPORTER_OTLP_HEADERS"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{where}: not an http or https URL; {way_out}")
    path = parts.path
    if append and not path.rstrip("/").endswith(TRACES_PATH):
        path = path.rstrip("/") + TRACES_PATH
    path = (path or "/") + (f"?{parts.query}" if parts.query else "")
    if not re.fullmatch(r"[\x21-\x7e]+", path):
        raise InputError(f"{where}: a URL with spaces or other special characters; {way_out}")
    _choice("PROTOCOL", environment, "http/protobuf")
    return OtlpTarget(
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=path,
        headers=_headers(environment),
        timeout=_timeout(environment),
        gzip=_choice("COMPRESSION", environment, "none", "gzip") == "gzip",
        tls=_tls(environment) if parts.scheme == "https" else None,
    )


def _variable(what: str, environment: Mapping[str, str]) -> tuple[str, str]:
    return first_set(environment, f"OTEL_EXPORTER_OTLP_TRACES_{what}", f"OTEL_EXPORTER_OTLP_{what}")


def _choice(what: str, environment: Mapping[str, str], *values: str) -> str:
    name, text = _variable(what, environment)
    if text.lower() not in ("", *values):
        raise InputError(f"{name}: value is not supported; write {' or '.join(values)}")
    return text.lower()


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    name, text = _variable("HEADERS", environment)
    headers = parse_pairs(name, text)
    for place, header in enumerate(headers.items(), 1):
        if not _HEADER.fullmatch(":".join(header)):
            raise InputError(
                f"{name}: entry {place} is not an HTTP header; use plain ASCII, "
                "with special characters percent-encoded"
            )
    return {key.lower(): value for key, value in headers.items()}


def _timeout(environment: Mapping[str, str]) -> float:
    name, text = _variable("TIMEOUT", environment)
    if text and not re.fullmatch("0*[1-9][0-9]*", text):
        raise InputError(f"{name}: not a number of milliseconds; write 10000 for ten seconds")
    return int(text) / 1000 if text else TIMEOUT


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    name, trusted = _variable("CERTIFICATE", environment)
    own, certificate = _variable("CLIENT_CERTIFICATE", environment)
    _, key = _variable("CLIENT_KEY", environment)
    if not trusted and not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=trusted or None)
        if certificate:
            name = own
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        is_tls = isinstance(error, ssl.SSLError)
        why = "no certificate in it" if is_tls else str(error.strerror).lower()
        raise InputError(f"{name}: cannot be read ({why}); name a PEM file") from None
    return context
