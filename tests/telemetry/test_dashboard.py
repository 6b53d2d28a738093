"""The dashboard of Grafana asks only for metrics and labels that a run sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from harness.telemetry.instruments import INSTRUMENTS, Instrument
from tests.telemetry.test_metrics import failing, made_of

GRAFANA = Path(__file__).parents[2] / "compose" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "harness.json").read_text(encoding="utf-8"))


def prometheus_names(instrument: Instrument) -> set[str]:
    """Translate a name as Prometheus does when it receives OTLP.

    Dots become underscores; the unit follows, words for abbreviations and nothing for annotations
    in braces; a counter ends in `_total`, a gauge without a unit in `_ratio`.
    """
    name = re.sub(r"\W", "_", instrument.name)
    if instrument.unit == "s":
        name += "_seconds"
    elif instrument.unit == "1" and instrument.kind == "gauge":
        name += "_ratio"
    else:
        assert re.fullmatch(r"\{\w+\}", instrument.unit)
    match instrument.kind:
        case "histogram":
            return {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        case "counter":
            return {f"{name}_total"}
        case "gauge":
            return {name}


KNOWN = {name for one in INSTRUMENTS for name in prometheus_names(one)}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_of_the_dashboard_is_one_that_a_run_sends() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    asked = set(re.findall(r"([a-z_]\w+)\{", " ".join(QUERIES)))
    asked |= set(re.findall(r"label_values\((\w+),", variable["query"]["query"]))
    assert asked <= KNOWN
    named = {one.name for one in INSTRUMENTS if prometheus_names(one) & asked}
    assert named == {one.name for one in INSTRUMENTS}, "each metric has a panel"


def test_every_label_of_the_dashboard_is_an_attribute_of_a_point() -> None:
    points = made_of(failing())
    labels = {re.sub(r"\W", "_", name) for point in points for name in point.attributes} | {"le"}
    text = " ".join(QUERIES)
    asked = set(re.findall(r"(\w+)=~?\"", text))
    for group in re.findall(r"by \(([^)]*)\)", text):
        asked |= set(group.split(", "))
    assert asked <= labels
    assert "harness_run_id" in asked


def test_every_selector_names_the_chosen_runs_and_every_panel_is_placed() -> None:
    for query in QUERIES:
        selectors = re.findall(r"\{([^}]*)\}", query)
        assert selectors
        assert all('harness_run_id=~"$run"' in one for one in selectors)
        assert query.count("(") == query.count(")")
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    titles = " ".join(panel["title"].lower() for panel in DASHBOARD["panels"])
    for wanted in ("latency", "throughput", "permit wait", "backoff", "in flight", "429"):
        assert wanted in titles


def test_the_dashboard_and_its_data_source_are_the_ones_that_grafana_finds() -> None:
    source = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"][0]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
