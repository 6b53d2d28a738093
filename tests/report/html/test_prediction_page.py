"""The page of a prediction, made from known values and read back."""

from __future__ import annotations

from dataclasses import replace

from harness.report.charts.model import CurvePanel, Series
from harness.report.charts.predictions import (
    agreement_chart,
    prediction_charts,
    signed_percent,
)
from harness.report.html.prediction_page import render_prediction_page
from harness.report.prediction_text import best_line, prediction_labels, quality_line
from harness.twin.prediction import CheckedPrediction, Prediction
from tests.report.html.reading import Element, csv_rows, downloads, read, rows_of
from tests.report.predictions import (
    EVIL,
    MEASURED,
    info,
    limited,
    make_check,
    make_prediction,
    predicted_cell,
)


def page(found: Prediction | CheckedPrediction, *changes: str) -> Element:
    return read(render_prediction_page(found, MEASURED, changes))


def series_of(prediction: Prediction, at: int = 0) -> list[Series]:
    """Return what the first panel of a chart draws."""
    charts = dict(prediction_charts(
        prediction, MEASURED, prediction_labels(prediction), changed=False
    ))  # fmt: skip
    panel = list(charts.values())[at].panels[0]
    assert isinstance(panel, CurvePanel)
    return list(panel.series)


def test_the_answer_is_first_and_everything_is_marked_as_predicted() -> None:
    prediction = make_prediction()
    document = page(prediction, "sweep.permits=[2, 4, 16]")
    answer = document.one("section", id="answer")
    assert document.every("section")[0] is answer
    expected = best_line(prediction, prediction_labels(prediction))
    assert answer.every("p")[0].text == expected.replace("\u00a0", " ")
    header = document.one("header").text
    assert "PREDICTED: nothing was measured or sent" in header
    assert "SIMULATED" in header
    assert "changed: sweep.permits=[2, 4, 16]" in header
    assert "6 settings, by a twin fitted to 1,234 attempts" in header
    assert "2 topics are not in the run." in answer.text
    titles = [one.text for one in document.every("h3")]
    assert all("redicted" in title for title in titles), titles


def test_a_prediction_of_a_real_provider_is_not_called_simulated() -> None:
    assert "imulated" not in page(make_prediction(simulated=False)).text.lower()


def test_the_table_has_each_metric_with_its_interval_and_marks_extrapolations() -> None:
    document = page(make_prediction())
    rows = rows_of(document.one("table", aria_labelledby="predicted-table"))
    assert rows["async 4 · full-jitter"]["makespan s"] == "250 225–275"
    assert rows["async 16 · openai-sdk*"]["success rate"] == "96 % 90–100 %"
    csv = csv_rows(downloads(document)["tides-simulated-predicted.csv"])
    assert csv[1]["predicted_makespan_low"] == "225.0"
    assert csv[2]["beyond"] == "16 permits are more"


def test_a_line_for_each_policy_goes_on_dashed_and_hollow_beyond_the_run() -> None:
    drawn = series_of(make_prediction())
    lines = [one for one in drawn if one.shape == "marked"]
    assert [one.name for one in lines] == ["full-jitter", "openai-sdk"]
    assert [(p.y, p.low, p.high) for p in lines[0].points] == [
        (500, 450, 550.0), (250, 225, 275.0)
    ]  # fmt: skip
    dashed = next(one for one in drawn if one.shape == "dashed")
    assert [p.y for p in dashed.points] == [250, 62.5]
    outer = next(one for one in drawn if one.shape == "loose" and one.look == dashed.look)
    assert [(p.y, p.hollow) for p in outer.points] == [(62.5, True)]


def test_a_limit_that_adapts_has_a_column_right_of_the_permits() -> None:
    limit = replace(predicted_cell(64), info=limited(64, "elastic"))
    cells = (predicted_cell(2), predicted_cell(4), limit)
    drawn = series_of(make_prediction(cells=cells))
    joined = next(one for one in drawn if one.shape == "marked")
    assert [p.x for p in joined.points] == [2, 4]
    (mark,) = (
        p for one in drawn if one.shape == "loose" and one.look == "blue" for p in one.points
    )
    short = next(one for one in drawn if one.shape == "line")
    assert (mark.y, mark.low) == (limit.values["makespan"].value, limit.values["makespan"].low)
    assert short.points[0].x < mark.x < short.points[1].x
    assert {p.y for p in short.points} == {mark.y}
    assert short.points[0].x > 8, "right of the measured permits"


def test_permits_below_the_run_are_dashed_up_to_it() -> None:
    cells = (
        predicted_cell(1, beyond="fewer"),
        predicted_cell(2, beyond="fewer"),
        predicted_cell(4),
    )
    drawn = series_of(make_prediction(cells=cells))
    (dashed,) = [one for one in drawn if one.shape == "dashed"]
    assert [p.y for p in dashed.points] == [1000, 500, 250]


def test_what_the_run_measured_is_drawn_also_where_nothing_is_predicted() -> None:
    drawn = series_of(make_prediction())
    (crosses,) = [one for one in drawn if one.look == "dark"]
    assert [p.y for p in crosses.points] == [260, 130]
    numbers = csv_rows(downloads(page(make_prediction()))["tides-simulated-objective.csv"])
    only = next(row for row in numbers if row["setting"] == "async 8 · full-jitter")
    assert (only["predicted_makespan"], only["measured_makespan"]) == ("", "130")


def test_what_was_measured_of_a_policy_that_was_not_asked_for_is_left_out() -> None:
    other = info(4, retry="none")
    measured = {name: {**means, other.id: MEASURED[name][info(4).id]}
                for name, means in MEASURED.items()}  # fmt: skip
    prediction = make_prediction(measured=(info(4), info(8), other))
    document = read(render_prediction_page(prediction, measured))
    drawn = document.every("figure")
    assert len(drawn) == 2
    assert not any("none" in figure.text for figure in drawn)
    numbers = csv_rows(downloads(document)["tides-simulated-objective.csv"])
    assert "async 8 · full-jitter" in [row["setting"] for row in numbers]
    assert not any("none" in row["setting"] for row in numbers)


def test_one_call_at_a_time_begins_the_line_of_its_policy() -> None:
    sync = replace(predicted_cell(1), info=info(1, mode="sync"))
    drawn = series_of(make_prediction(cells=(sync, predicted_cell(4)), measured=()))
    (line,) = [one for one in drawn if one.shape == "marked"]
    assert [p.y for p in line.points] == [1000, 250]


def test_changes_of_the_provider_are_said_beside_what_was_measured() -> None:
    text = "Crosses: means that a run measured, without the changes."
    assert text in page(make_prediction(), "endpoint.override.slots=2").text
    assert text not in page(make_prediction(), "sweep.permits=[2]").text


def test_the_objective_of_the_scenario_is_drawn_first() -> None:
    document = page(make_prediction(objective="ttft_p50"))
    first, second = (one.one("h3").text for one in document.every("figure"))
    assert first == "Predicted median time to first token by permits"
    assert second == "Predicted success rate by permits"


def test_the_errors_of_the_settings_that_were_left_out_are_in_a_table() -> None:
    rows = rows_of(page(make_prediction()).one("table", aria_labelledby="left-out-table"))
    assert rows["async 4 · full-jitter"]["makespan"] == "+2.0 %"
    assert rows["async 4 · full-jitter"]["success rate"] == "−2.0 %"
    assert rows["async 8 · full-jitter*"]["makespan"] == "−9.5 %"
    assert "the pace above 8 in flight" in page(make_prediction()).one("section", id="unknown").text


def test_a_prediction_without_errors_or_values_is_a_page_too() -> None:
    assert "No setting could be left out" in page(make_prediction(errors={})).text
    empty = page(make_prediction(cells=()))
    assert empty.every("figure") == []
    assert "No setting is predicted to keep a workflow." in empty.text


def test_a_comparison_says_its_quality_first_and_where_it_is_weaker() -> None:
    check = make_check()
    document = page(check)
    answer = document.one("section", id="answer")
    assert [one.text for one in answer.every("p")[:2]] == [
        "Quality of the prediction: fair", quality_line(check).replace("\u00a0", " ")
    ]  # fmt: skip
    shown = document.one("section", id="check")
    assert "permits 2: the makespan is off by 29.0 %" in shown.text
    errors = rows_of(shown.one("table", aria_labelledby="errors-table"))
    assert errors["makespan"]["largest"] == "29.0 %"
    assert errors["makespan"]["quality"] == "fair"
    assert "predicted clearly worse" in page(make_check(weak=())).text


def test_predicted_and_measured_values_are_points_with_both_intervals() -> None:
    check = make_check()
    chart = agreement_chart(check, MEASURED, prediction_labels(check.prediction))
    assert chart is not None
    (panel,) = chart.panels
    assert isinstance(panel, CurvePanel)
    diagonal, good, missed = panel.series
    assert all(point.x == point.y for point in diagonal.points)
    (point,) = good.points
    assert (point.x, point.y, point.low, point.high) == (260, 250, 225, 275)
    assert (point.left, point.right) == (240, 280)
    (point,) = missed.points
    assert (point.x, point.left, point.hollow) == (700, None, True)


def test_a_comparison_without_common_settings_is_a_page_too() -> None:
    document = page(make_check(values=(), metrics=(), weak=()))
    assert document.one("section", id="check").every("figure") == []
    assert "nothing can be compared" in document.text


def test_texts_from_records_are_escaped() -> None:
    cell = predicted_cell(4, retry=EVIL, beyond=EVIL)
    prediction = make_prediction(scenario=EVIL, cells=(cell,), notes=(EVIL,), unknown=(EVIL,))
    check = make_check(prediction=prediction, values=(), weak=(
        replace(make_check().weak[0], where=EVIL),
    ))  # fmt: skip
    for found in (prediction, check):
        document = page(found, EVIL)
        assert len(document.every("script")) == 1
        assert document.every("img") == []


def test_more_lines_than_colours_are_counted() -> None:
    cells = tuple(predicted_cell(4, retry=f"policy-{n}") for n in range(8))
    assert "Not drawn: 2 more lines" in page(make_prediction(cells=cells, measured=())).text


def test_an_error_that_is_written_as_zero_has_no_sign() -> None:
    assert [signed_percent(share) for share in (-0.0001, 0.0001, 0.012, -0.5)] == [
        "0.0\u00a0%", "0.0\u00a0%", "+1.2\u00a0%", "−50.0\u00a0%"
    ]  # fmt: skip
