"""Every view names a swept key, groups by it, and leaves it out where it does not vary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.compare import CellChanges
from harness.analysis.model import Cell
from harness.analysis.settings import policy_of
from harness.records.schema import CellInfo
from harness.report.charts.model import HeatPanel
from harness.report.charts.permits import curves_of, heat_map
from harness.report.columns import settings_columns
from harness.report.console import Output
from harness.report.html.method import environment, profile_text
from harness.report.line_wrap import legend
from harness.report.terminal import render_summary
from harness.report.wording import cell_labels, in_reading_order, side_by_side, spoken
from tests.analysis.builders import make_run
from tests.report.subjects import about
from tests.report.summaries import make_cell, make_summary

MODELS = ("small", "large")
KEY = "endpoint.model"


def crossed(*ids: str) -> list[Cell]:
    """Return these cells once for each model."""
    return [
        make_cell(one, id=f"{one}_{model}", settings={KEY: model}) for model in MODELS
        for one in ids
    ]  # fmt: skip


CELLS = crossed("sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt")


def test_labels_and_sentences_say_the_value_only_where_it_varies() -> None:
    labels = cell_labels(CELLS)
    assert labels["async_8_none_attempt_large"] == "async 8 · model large"
    assert spoken(CELLS[-1], CELLS) == "async with 8 permits and model large"
    alone = CELLS[:3]
    assert cell_labels(alone)["async_8_none_attempt_small"] == "async 8"
    assert spoken(alone[-1], alone) == "async with 8 permits"


def test_curves_over_permits_are_of_one_value_and_have_its_sync_cell() -> None:
    small, large = curves_of(make_summary(CELLS))
    assert (small.name, large.name) == ("model small", "model large")
    assert [cell.settings[KEY] for cell in large.cells] == ["large", "large"]
    assert large.sync is not None
    assert large.sync.settings == {KEY: "large"}


def test_a_swept_key_crosses_permits_in_the_heat_map_as_policies_do() -> None:
    chart = heat_map(about(make_summary(CELLS)))
    assert chart is not None
    for panel in chart.panels:
        assert isinstance(panel, HeatPanel)
        assert [label for label, _ in panel.rows] == ["model small", "model large"]


def test_cells_of_one_value_are_read_together() -> None:
    mixed = [cell for pair in zip(CELLS[3:], CELLS[:3], strict=True) for cell in reversed(pair)]
    order = [cell.id for cell in in_reading_order(mixed)]
    assert order == [cell.id for cell in CELLS]


def test_policies_stand_under_one_another_within_a_value() -> None:
    cells = crossed("async_8_none_attempt", "async_8_full-jitter_attempt")
    assert [cell.id for cell in side_by_side(cells)] == [cell.id for cell in cells]


def test_the_terminal_has_a_column_and_a_legend_for_long_values() -> None:
    urls = [f"https://{name}.example.com/v1/chat" for name in ("one", "two")]
    cells = [
        make_cell("async_8_none_attempt", id=f"cell{number}", settings={"endpoint.base_url": url})
        for number, url in enumerate(urls)
    ]
    (column,) = settings_columns(cells)[3:]
    assert (column.head, column.values) == ("base_url", ["base-url-1", "base-url-2"])
    assert legend(cells) == [f"base-url-{number} = {url}" for number, url in enumerate(urls, 1)]
    with (console := Output()).capture() as capture:
        render_summary(make_summary(cells), Path("nowhere"), console)
    assert f"base-url-2 = {urls[1]}" in capture.get()


def test_the_report_has_a_column_of_the_key_in_its_tables() -> None:
    columns = {column.key: column.values for column in about(make_summary(CELLS)).cell_columns()}
    assert columns[KEY] == ["small"] * 3 + ["large"] * 3
    assert columns["mode"] == ["sync", "async", "async"] * 2


def test_a_comparison_has_the_same_columns() -> None:
    changes = [
        CellChanges(
            cell=cell.id, mode=cell.mode, permits=cell.permits, retry=cell.retry,
            permit_scope=cell.permit_scope, settings=cell.settings, changes={},
        )
        for cell in CELLS
    ]  # fmt: skip
    assert settings_columns(changes)[-1].values == ["small"] * 3 + ["large"] * 3
    assert {policy_of(one) for one in changes} == {policy_of(one) for one in CELLS}


def test_the_page_names_the_endpoint_of_each_price_and_profile() -> None:
    prices: dict[str, dict[str, Any] | None] = {
        model: {"input": cost, "cached": cost, "output": cost, "source": "list"}
        for model, cost in zip(MODELS, (1.0, 2.0), strict=True)
    }
    infos = [
        CellInfo(
            id=f"{permits}_{model}", mode="async", permits=permits, retry="none",
            permit_scope="attempt", settings={KEY: model},
        )
        for model in MODELS for permits in (1, 2)
    ]  # fmt: skip
    run = msgspec.structs.replace(
        make_run(), cells=tuple(infos), price=prices["small"],
        prices={info.id: prices["large"] for info in infos if info.settings[KEY] == "large"},
        profile={"slots": 1}, profiles={"1_large": {"slots": 2}, "2_large": {"slots": 2}},
    )  # fmt: skip
    said = dict(environment(run))
    assert said["price, model small"].startswith("USD per million tokens: 1 input,")
    assert said["price, model large"].startswith("USD per million tokens: 2 input,")
    assert json.loads(profile_text(run) or "") == {
        "model small": {"slots": 1}, "model large": {"slots": 2},
    }  # fmt: skip
    alike = msgspec.structs.replace(run, prices={}, profiles={})
    assert "price" in dict(environment(alike))
    assert json.loads(profile_text(alike) or "") == {"slots": 1}
