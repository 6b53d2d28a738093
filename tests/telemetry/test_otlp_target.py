"""Where spans go: the command line, and each of the standard variables."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.errors import InputError
from harness.telemetry.otlp_target import OtlpTarget, open_target, switched_off

BASE = "http://127.0.0.1:4318"


def opened(url: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the address that is chosen."""
    target = open_target(url, environment)
    return None if target is None else str(target)


def target_of(**environment: str) -> OtlpTarget:
    """Return the target that these variables make of a plain address."""
    names = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environment.items()}
    names["OTEL_EXPORTER_OTLP_ENDPOINT"] = BASE.replace("http:", "https:")
    target = open_target(None, names)
    assert target is not None
    return target


@pytest.mark.parametrize(
    ("url", "chosen"),
    [
        (BASE, BASE + "/v1/traces"),
        (BASE + "/", BASE + "/v1/traces"),
        (BASE + "/v1/traces", BASE + "/v1/traces"),
        (BASE + "/otlp/", BASE + "/otlp/v1/traces"),
        ("https://collector.example", "https://collector.example:443/v1/traces"),
        ("http://collector.example", "http://collector.example:80/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_a_given_url_gets_the_path_of_traces_where_it_lacks_it(url: str, chosen: str) -> None:
    assert opened(url, {}) == chosen


def test_without_a_url_and_variables_nothing_is_sent() -> None:
    empty = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_SDK_DISABLED": "false",
    }
    assert opened(None, {}) is None
    assert opened(None, empty) is None


def test_the_base_variable_gets_the_path_and_the_traces_variable_is_taken_as_it_is() -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE + "/base"}
    assert opened(None, base) == BASE + "/base/v1/traces"
    exact = base | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/custom"}
    assert opened(None, exact) == "http://127.0.0.1:9/custom"
    exact["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:9"
    assert opened(None, exact) == "http://127.0.0.1:9/"


def test_a_given_url_wins_over_the_variables() -> None:
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/custom"}
    assert opened(BASE, environment) == BASE + "/v1/traces"


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_a_variable_can_switch_sending_off_and_be_named(environment: dict[str, str]) -> None:
    off = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE}
    assert opened(None, off) is None
    assert opened(BASE, off) is None
    (name,) = environment
    assert str(switched_off(off)).startswith(f"{name}=")
    assert switched_off({"OTEL_EXPORTER_OTLP_ENDPOINT": BASE}) is None


def test_headers_for_traces_win_over_those_for_all() -> None:
    both = {
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=2,b=3",
    }
    target = open_target(BASE, both)
    assert target is not None
    assert target.headers == {"a": "1"}


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4318", "ftp://h", "http://", "http://h:99999", "http://h:x", "http://a..b",
     "http://user:s3cret@h:4318", "http://h/s3cret path", "http://[::1"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InputError) as no:
        open_target(url, {})
    assert str(no.value).startswith("--otlp: ")
    assert "s3cret" not in str(no.value)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    "text", ["s3cret", "a=1,b=x%0As3cret", "a=1,b=\u00e9s3cret", "a=1, =s3cret"]
)
def test_headers_that_cannot_be_sent_are_refused_without_their_text(text: str) -> None:
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_HEADERS: entry [12] ") as no:
        open_target(BASE, {"OTEL_EXPORTER_OTLP_HEADERS": text})
    assert "s3cret" not in str(no.value)


@pytest.mark.parametrize("text", ["a=1,b!=s3cret", "a=1,b-bin=s3cret"])
def test_headers_that_grpc_does_not_allow_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_HEADERS: entry 2 .* grpc"):
        open_target("grpc://h", {"OTEL_EXPORTER_OTLP_HEADERS": text})


@given(st.text() | st.text().map(lambda text: f"http://{text}"))
def test_any_address_is_taken_or_refused_in_one_line(url: str) -> None:
    refusal = ""
    try:
        target = open_target(url, {})
    except InputError as error:
        target, refusal = None, str(error)
    assert (target is None) == refusal.startswith("--otlp: ")
    assert "\n" not in refusal
    assert target is None or target.path.partition("?")[0].endswith("/v1/traces")


# The variables, one by one


def test_only_exporters_other_than_otlp_send_nothing() -> None:
    for exporters in ("console", "zipkin,console"):
        off = {"OTEL_TRACES_EXPORTER": exporters, "OTEL_EXPORTER_OTLP_ENDPOINT": BASE}
        assert opened(None, off) is None
        assert switched_off(off) == f"OTEL_TRACES_EXPORTER={exporters}"
    on = {"OTEL_TRACES_EXPORTER": "console, OTLP", "OTEL_EXPORTER_OTLP_ENDPOINT": BASE}
    assert opened(None, on) == BASE + "/v1/traces"


def test_a_timeout_is_in_milliseconds_and_that_for_traces_wins() -> None:
    assert target_of().timeout == 10.0
    assert target_of(TIMEOUT="2500").timeout == 2.5
    assert target_of(TIMEOUT="2500", TRACES_TIMEOUT="700").timeout == 0.7


def test_compression_is_gzip_or_none() -> None:
    assert not target_of().gzip
    assert target_of(COMPRESSION="gzip").gzip
    assert not target_of(COMPRESSION="gzip", TRACES_COMPRESSION="none").gzip


def test_the_protocol_may_be_named_where_it_is_the_one_that_is_spoken() -> None:
    assert target_of(PROTOCOL="http/protobuf") == target_of()
    assert target_of(PROTOCOL="grpc", TRACES_PROTOCOL="http/protobuf") == target_of()


@pytest.mark.parametrize(
    ("url", "protocol", "chosen"),
    [
        ("http://h:4317", "grpc", "grpc://h:4317/v1/traces"),
        ("https://h:4317", "grpc", "grpcs://h:4317/v1/traces"),
        ("http://h", "grpc", "grpc://h:4317/v1/traces"),
        ("http://h:4317/ignored?x=1", "grpc", "grpc://h:4317/v1/traces"),
        ("h:4317", "grpc", "grpcs://h:4317/v1/traces"),
        ("grpc://h", "", "grpc://h:4317/v1/traces"),
        ("grpcs://[::1]", "http/protobuf", "grpcs://[::1]:4317/v1/traces"),
    ],
)
def test_grpc_is_chosen_by_the_protocol_or_by_the_scheme(
    url: str, protocol: str, chosen: str
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }  # fmt: skip
    assert opened(None, environment) == chosen


def test_an_address_of_grpc_without_a_scheme_is_plain_where_insecure_says_so() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "h:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
    }  # fmt: skip
    assert opened(None, environment) == "grpc://h:4317/v1/traces"


def test_a_given_url_wins_over_the_protocol_too() -> None:
    environment = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert opened(BASE, environment) == BASE + "/v1/traces"
    assert opened("grpc://h:4317", environment) == "grpc://h:4317/v1/traces"


def test_metrics_have_their_own_path_and_variables() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": BASE, "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "700",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "800",
    }  # fmt: skip
    target = open_target(None, environment, signal="metrics")
    assert target is not None
    assert (str(target), target.timeout) == (BASE + "/v1/metrics", 0.7)
    for url in (BASE, BASE + "/v1/traces", BASE + "/v1/metrics"):
        assert str(open_target(url, {}, signal="metrics")) == BASE + "/v1/metrics"
    own = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:9090/api/v1/otlp/v1/metrics"}
    assert str(open_target(None, own, signal="metrics")) == "http://h:9090/api/v1/otlp/v1/metrics"
    off = {"OTEL_METRICS_EXPORTER": "none"}
    assert open_target(BASE, off, signal="metrics") is None
    assert open_target(BASE, off) is not None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    path = tmp_path / "own.pem"
    made = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
        "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "only.pem"),
    ]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "only.pem").read_text())
    return path


def test_a_certificate_says_whom_to_trust(certificate: Path) -> None:
    given = target_of(
        CERTIFICATE=str(certificate), CLIENT_CERTIFICATE=str(certificate)
    ).certificates
    assert given is not None
    (trusted,) = given.context.get_ca_certs()
    assert ("commonName", "127.0.0.1") in trusted["subject"][0]
    assert given.context.verify_mode == ssl.CERT_REQUIRED
    assert given.trusted == given.chain == given.key == certificate.read_bytes()
    assert target_of().certificates is None, "the system's own way"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT", "2.5"), ("TIMEOUT", "0"), ("TIMEOUT", "-1"), ("COMPRESSION", "s3cret"),
        ("PROTOCOL", "http/json"), ("CERTIFICATE", "/nowhere/s3cret"), ("CERTIFICATE", __file__),
        ("CLIENT_CERTIFICATE", "/nowhere"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_obeyed_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"^OTEL_EXPORTER_OTLP_{name}: ") as no:
        target_of(**{name: value})
    assert "s3cret" not in str(no.value)
    assert "\n" not in str(no.value)
