"""docker-compose.yml and the configurations that it mounts, held against each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.bench.scenario_file import load_scenario
from harness.cli.parser import command_parser
from harness.endpoints.openai import OpenAIEndpoint
from harness.telemetry import otlp_file, semconv

ROOT = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


SERVICES: dict[str, Any] = read("docker-compose.yml")["services"]
JAEGER: dict[str, Any] = read("compose/jaeger.yaml")
PROMETHEUS: dict[str, Any] = read("compose/prometheus.yaml")


def published(service: str) -> dict[str, str]:
    """Return the ports that are published: outside, inside. All are on this machine alone."""
    found = [re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port) for port in SERVICES[service]["ports"]]
    assert all(found), SERVICES[service]["ports"]
    return dict(match.groups() for match in found if match)  # type: ignore[misc]


def endpoints(value: Any) -> list[str]:
    """Return every address that a configuration listens on."""
    if isinstance(value, list):
        return [one for item in value for one in endpoints(item)]
    if not isinstance(value, dict):
        return []
    mine = [value["endpoint"]] if isinstance(value.get("endpoint"), str) else []
    return [*mine, *(one for item in value.values() for one in endpoints(item))]


def seconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000


def test_every_port_is_published_on_this_machine_alone_under_its_own_number() -> None:
    assert published("jaeger") == {port: port for port in ("16686", "4318", "4317", "13133")}
    assert published("prometheus") == {"9090": "9090"}
    assert published("grafana") == {"3000": "3000"}
    assert published("simulator") == {"8000": "8000"}
    for service in SERVICES.values():
        assert "network_mode" not in service
        assert "expose" not in service


def test_jaeger_listens_where_compose_publishes_it_and_beyond_its_own_loopback() -> None:
    listened = [one for one in endpoints(JAEGER) if not one.startswith("http")]
    assert all(one.startswith("0.0.0.0:") for one in listened)
    ports = {one.rpartition(":")[2] for one in listened}
    assert set(published("jaeger")) < ports
    assert ports - set(published("jaeger")) == {"8889"}, "for Prometheus, within the network"
    receivers = JAEGER["receivers"]["otlp"]["protocols"]
    assert receivers["http"]["endpoint"] == "0.0.0.0:4318"
    assert receivers["grpc"]["endpoint"] == "0.0.0.0:4317"
    assert JAEGER["extensions"]["jaeger_query"]["http"]["endpoint"] == "0.0.0.0:16686"
    health = JAEGER["extensions"]["healthcheckv2"]["http"]["endpoint"]
    assert health == "0.0.0.0:13133"
    assert "http://127.0.0.1:13133/status" in SERVICES["jaeger"]["healthcheck"]["test"]


def test_jaeger_reads_the_configuration_that_is_mounted() -> None:
    mounts = [
        mount.split(":")
        for name in ("jaeger", "prometheus", "grafana")
        for mount in SERVICES[name]["volumes"]
    ]
    for source, _, mode in mounts:
        assert (ROOT / source).is_file()
        assert mode == "ro"
    targets = [target for _, target, _ in mounts]
    assert SERVICES["jaeger"]["command"] == ["--config", targets[0]]
    assert f"--config.file={targets[2]}" in SERVICES["prometheus"]["command"]
    assert JAEGER["extensions"]["jaeger_query"]["ui"] == {"config_file": targets[1]}


def test_what_tells_spans_apart_is_their_first_tag_in_jaeger() -> None:
    assert read("compose/jaeger-ui.json")["topTagPrefixes"][0] == semconv.TITLE


def test_every_file_of_a_run_can_be_uploaded() -> None:
    http = JAEGER["extensions"]["jaeger_query"]["http"]
    assert http["max_request_body_size"] == 200 * 1024 * 1024 > otlp_file.MOST_FILE_BYTES


def test_names_are_those_that_jaeger_does_not_warn_of() -> None:
    assert "spanmetrics" not in JAEGER["connectors"], "renamed to span_metrics"
    resource = JAEGER["service"]["telemetry"]["resource"]
    assert resource == {"attributes": [{"name": "service.name", "value": "jaeger"}]}


def test_every_part_of_a_pipeline_is_configured_and_every_store_is_there() -> None:
    known = {
        "receivers": {*JAEGER["receivers"], *JAEGER["connectors"]},
        "processors": set(JAEGER["processors"]),
        "exporters": {*JAEGER["exporters"], *JAEGER["connectors"]},
    }
    for pipeline in JAEGER["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= known[kind]
    assert set(JAEGER["service"]["extensions"]) == set(JAEGER["extensions"])
    storage = JAEGER["extensions"]["jaeger_storage"]
    query = JAEGER["extensions"]["jaeger_query"]["storage"]
    assert query["traces"] in storage["backends"]
    assert query["metrics"] in storage["metric_backends"]
    assert JAEGER["exporters"]["jaeger_storage_exporter"]["trace_storage"] in storage["backends"]


def test_only_the_profile_monitor_adds_prometheus_which_reads_what_jaeger_offers() -> None:
    monitor = [name for name, one in SERVICES.items() if one.get("profiles") == ["monitor"]]
    assert monitor == ["prometheus", "grafana"]
    (job,) = PROMETHEUS["scrape_configs"]
    offered = JAEGER["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert job["static_configs"] == [{"targets": [f"jaeger:{offered}"]}]
    (store,) = JAEGER["extensions"]["jaeger_storage"]["metric_backends"].values()
    assert store["prometheus"]["endpoint"] == "http://prometheus:9090"
    assert store["prometheus"]["normalize_calls"] is True
    assert store["prometheus"]["normalize_duration"] is True


def test_the_buckets_reach_calls_that_last_minutes_and_both_sides_mean_one_unit() -> None:
    metrics = JAEGER["connectors"]["span_metrics"]
    buckets = [seconds(one) for one in metrics["histogram"]["explicit"]["buckets"]]
    conventional = [0.01 * 2**power for power in range(14)]
    assert buckets[:14] == conventional
    assert buckets[-1] > 600
    (store,) = JAEGER["extensions"]["jaeger_storage"]["metric_backends"].values()
    assert metrics["histogram"]["unit"] == store["prometheus"]["latency_unit"] == "ms"
    assert metrics["namespace"].replace(".", "_") == store["prometheus"]["metric_namespace"]


def test_images_are_pinned() -> None:
    for image in (one["image"] for one in SERVICES.values() if "build" not in one):
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", image)


def test_one_command_starts_the_provider_jaeger_and_a_run_against_both() -> None:
    run, provider = SERVICES["harness"], SERVICES["simulator"]
    assert run["build"] == provider["build"] == {"context": ".", "dockerfile": "Containerfile"}
    assert run["depends_on"] == {
        name: {"condition": "service_healthy"} for name in ("simulator", "jaeger")
    }
    assert run["profiles"] == provider["profiles"], "`docker compose up` starts Jaeger alone"
    served = command_parser().parse_args(provider["command"])
    assert served.host == provider["hostname"] == "simulator", "it refuses other names with 421"
    options = command_parser().parse_args(run["command"])
    port = JAEGER["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert options.yes, "it starts without a question"
    assert options.otlp == f"http://jaeger:{port}"
    [scenario, results] = [mount.split(":") for mount in run["volumes"]]
    assert scenario[1:] == [f"/work/{options.scenario}", "ro"]
    assert results == ["./results", "/work/results"]
    endpoint = load_scenario(ROOT / scenario[0]).endpoint
    assert isinstance(endpoint, OpenAIEndpoint)
    assert endpoint.base_url == f"http://{served.host}:{served.port}/v1"


def test_the_containers_of_the_harness_can_change_nothing_but_results() -> None:
    for name in ("simulator", "harness"):
        service = SERVICES[name]
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES["harness"]["user"] == "${HARNESS_USER:-1000:1000}"
