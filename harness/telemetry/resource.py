"""The OpenTelemetry resource of a run, which describes the source of its spans.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from harness import __version__
from harness.records import ids
from harness.records.errors import InputError
from harness.records.schema import Run
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes

RESOURCE_VARIABLE = "OTEL_RESOURCE_ATTRIBUTES"
NAME_VARIABLE = "OTEL_SERVICE_NAME"
SERVICE = "harness"

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}
"""Python's name of a machine -> the convention's value of `host.arch`, if they differ."""


def make_resource(run: Run, environment: Mapping[str, str]) -> Attributes:
    """Return the resource of a run's spans.

    OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES (comma-separated, percent-encoded `key=value`
    pairs) have priority over the defaults; they cannot override whether the run was simulated.
    `host.id` is a pseudonym without the machine's name: it shows Jaeger that all spans use one
    clock, so that Jaeger does not shift them. Raises InputError for a malformed variable.
    """
    defaults: Attributes = {
        semconv.SERVICE_NAME: SERVICE,
        semconv.SERVICE_VERSION: run.versions["harness"],
        # An implementation other than OpenTelemetry's is named by its module.
        semconv.SDK_NAME: "harness.telemetry",
        semconv.SDK_LANGUAGE: "python",
        semconv.SDK_VERSION: __version__,
        semconv.HOST_ID: ids.span_id(run.run_id, "host"),
    }
    host = run.host
    if "machine" in host:
        defaults[semconv.HOST_ARCH] = _ARCHITECTURES.get(host["machine"], host["machine"])
    if "system" in host:
        defaults[semconv.OS_TYPE] = host["system"].lower()
    if "release" in host:
        defaults[semconv.OS_VERSION] = host["release"]
    given = _given(environment)
    return {
        **defaults,
        **given,
        semconv.RUN_ID: run.run_id,
        semconv.SIMULATED: run.simulated,
        semconv.TIME_SCALE: run.time_scale,
        **({semconv.VIRTUAL_TIME: True} if run.virtual else {}),
    }


def service_name(environment: Mapping[str, str]) -> str:
    """Return the name of the service that the spans come from. Raises InputError."""
    return str(_given(environment).get(semconv.SERVICE_NAME, SERVICE))


def _given(environment: Mapping[str, str]) -> Attributes:
    given: Attributes = dict(parse_pairs(RESOURCE_VARIABLE, environment.get(RESOURCE_VARIABLE, "")))
    if environment.get(NAME_VARIABLE):
        given[semconv.SERVICE_NAME] = environment[NAME_VARIABLE]
    return given


def first_set(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first variable that is set, and its stripped value; else the last one and ""."""
    for name in names:
        if text := environment.get(name, "").strip():
            break
    return name, text


def parse_pairs(variable: str, text: str) -> dict[str, str]:
    """Parse comma-separated, percent-encoded `key=value` pairs; strip spaces around them.

    Raises InputError, which names `variable` and the position, but not the text: it may be secret.
    """
    pairs: dict[str, str] = {}
    for place, part in enumerate(text.split(","), 1):
        if not part.strip():
            continue
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise InputError(
                f"{variable}: entry {place} is not key=value; "
                "write key1=value1,key2=value2 with special characters percent-encoded"
            )
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs
