"""The resource of a run's spans, and the variables that change it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import __version__
from harness.records.errors import InputError
from harness.telemetry.resource import make_resource, parse_pairs
from tests.telemetry.example import example_run, live_run

HOST = {"system": "Linux", "release": "6.1", "machine": "x86_64", "cpus": 2}


def test_a_resource_says_who_where_and_that_it_was_simulated() -> None:
    run = example_run(host=HOST, time_scale=0.5)
    resource = make_resource(run, {})
    assert resource.pop("host.id") not in ("", "harness")
    assert resource == {
        "service.name": "harness",
        "service.version": "0.1.0",
        "telemetry.sdk.name": "harness.telemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "host.arch": "amd64",
        "os.type": "linux",
        "os.version": "6.1",
        "harness.run.id": run.run_id,
        "harness.simulated": True,
        "harness.time_scale": 0.5,
    }
    assert make_resource(live_run(), {})["harness.simulated"] is False


def test_only_a_run_in_virtual_time_says_so() -> None:
    assert make_resource(example_run(virtual=True), {})["harness.virtual"] is True
    assert "harness.virtual" not in make_resource(example_run(), {})


def test_all_spans_of_a_run_share_a_host_that_names_no_machine() -> None:
    one, again = (make_resource(example_run(), {}) for _ in range(2))
    other = make_resource(example_run(run_id="another"), {})
    assert one["host.id"] == again["host.id"] != other["host.id"]


def test_the_service_name_comes_from_its_variable_first() -> None:
    both = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}
    assert make_resource(example_run(), both)["service.name"] == "mine"
    del both["OTEL_SERVICE_NAME"]
    assert make_resource(example_run(), both)["service.name"] == "theirs"
    assert make_resource(example_run(), {"OTEL_SERVICE_NAME": ""})["service.name"] == "harness"


def test_resource_attributes_are_added_decoded() -> None:
    text = "team=a%2Cb , deployment.environment.name=lab,service.version=9"
    resource = make_resource(example_run(), {"OTEL_RESOURCE_ATTRIBUTES": text})
    assert resource["team"] == "a,b"
    assert resource["deployment.environment.name"] == "lab"
    assert resource["service.version"] == "9"


def test_nothing_in_the_environment_hides_that_a_run_was_simulated() -> None:
    text = "harness.simulated=false"
    resource = make_resource(example_run(), {"OTEL_RESOURCE_ATTRIBUTES": text})
    assert resource["harness.simulated"] is True


@pytest.mark.parametrize("text", ["a=1,s3cret", "a=1,=s3cret"])
def test_a_malformed_variable_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(InputError, match=r"OTEL_RESOURCE_ATTRIBUTES: entry 2 .*key1=value1") as no:
        make_resource(example_run(), {"OTEL_RESOURCE_ATTRIBUTES": text})
    assert "s3cret" not in str(no.value)


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    refusal, pairs = "", {}
    try:
        pairs = parse_pairs("V", text)
    except InputError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("V: entry ")
    assert "\n" not in refusal
    assert "" not in pairs


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_pairs_that_are_percent_encoded_are_read_back(pairs: dict[str, str]) -> None:
    text = ",".join(f"{quote(key, '')}={quote(value, '')}" for key, value in pairs.items())
    assert parse_pairs("V", text) == pairs
