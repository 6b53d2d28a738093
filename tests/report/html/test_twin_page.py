"""The page of a twin, made from known curves and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.charts.twin import limit_chart, pace_chart, ttft_chart
from harness.report.html.twin_page import render_twin
from harness.twin.twin_curves import LimitCounts, PartText
from tests.report.html.reading import Element, csv_rows, downloads, read
from tests.report.predictions import EVIL, make_curves


def page(name: str = "twin", **fields: object) -> Element:
    return read(render_twin(make_curves(**fields), name))


def section(document: Element, name: str) -> Element:
    return document.one("section", id=name)


def test_each_section_has_its_chart_its_parts_and_what_the_records_cannot_tell() -> None:
    document = page()
    for name, part, evidence in (
        ("pace", "20 ms a token", "3 attempts"), ("ttft", "500 ms", "2 attempts"),
        ("lengths", "answer 100 tokens", "8 answers"), ("limits", "2", "4 refusals"),
    ):  # fmt: skip
        shown = section(document, name)
        assert len(shown.every("figure")) == 1
        assert shown.one("dd").text == f"{part} {evidence}"
    assert "The records cannot tell the pace above 3 in flight" in section(document, "pace").text
    assert "cannot tell" not in section(document, "ttft").text
    assert document.one("main").text.endswith("Not fitted: tool calls.")


def test_a_part_without_a_section_of_its_own_is_among_the_others() -> None:
    others = section(page(), "others")
    assert others.one("dt").text == "fault server_error"
    assert "rarer faults" in others.text
    assert others.every("figure") == []


def test_a_twin_of_a_simulated_provider_says_so_and_another_one_does_not() -> None:
    document = page()
    assert "SIMULATED" in document.one("header").text
    assert "(simulated)" in document.one("title").text
    assert "twin-simulated-pace.csv" in downloads(document)
    assert "imulated" not in page(simulated=False).text


def test_texts_from_records_are_escaped() -> None:
    lengths = replace(make_curves().lengths[0], setting=EVIL)
    html = render_twin(
        make_curves(lengths=(lengths,), parts=(PartText("pace", EVIL, EVIL, (EVIL,)),),
                    unfitted=EVIL), EVIL
    )  # fmt: skip
    document = read(html)
    assert len(document.every("script")) == 1
    assert document.every("img") == []
    assert document.one("h1").text == " ".join(EVIL.split())


def test_the_numbers_are_those_of_the_fit() -> None:
    found = downloads(page())
    assert [
        (row["decoding"], row["ms_a_token"]) for row in csv_rows(found["twin-simulated-pace.csv"])
    ] == [("1.0", "20.0"), ("3.0", "40.0")]
    rows = csv_rows(found["twin-simulated-limits.csv"])
    assert [(row["admitted"], row["refused"]) for row in rows] == [
        ("6", "0"),
        ("5", "0"),
        ("0", "4"),
    ]


def test_the_curve_is_drawn_over_the_points_and_goes_on_dashed() -> None:
    (panel,) = pace_chart(make_curves()).panels
    series = {one.name: one for one in panel.series}  # type: ignore[union-attr]
    assert [(p.x, p.y) for p in series["attempts"].points] == [(1, 20), (2, 30), (3, 40)]
    assert [(p.x, p.y) for p in series["fitted"].points] == [(1, 20), (3, 40)]
    assert series["continued"].shape == "dashed"
    assert series["continued"].points[0].x == 3


def test_it_is_said_how_many_points_are_drawn_and_which_are_beyond_the_axis() -> None:
    chart = ttft_chart(make_curves())
    assert chart is not None
    assert chart.notes[0].startswith("Points: 2 of 900 attempts, taken evenly along the axis")
    far = tuple((1.0, 0.02) for _ in range(999))
    pace = replace(make_curves().pace, measured=(*far, (1.0, 9.0)), attempts=1000)
    notes = pace_chart(make_curves(pace=pace)).notes
    assert "All attempts: 1 point beyond the axis, drawn at its edge." in notes


def test_a_cost_of_prompts_is_said_to_be_taken_off() -> None:
    text = "cost of contexts and prompts is taken off"
    assert text not in section(page(), "pace").text
    parts = (*make_curves().parts, PartText("prompts", "13 ms for 1,000 tokens", "", ()))
    shown = section(page(parts=parts), "pace").text
    assert text in shown
    assert "13 ms for 1,000 tokens" in shown


def test_responses_that_came_as_a_whole_have_no_chart_of_the_first_token() -> None:
    document = page(ttft_waiting=None, ttft_input=None)
    assert section(document, "ttft").every("figure") == []
    assert section(document, "ttft").one("dd").text == "500 ms 2 attempts"


@pytest.mark.parametrize(("cap", "references"), [(2, [1.5]), (None, [])])
def test_the_cap_is_between_the_last_admission_and_the_first_refusal(
    cap: int | None, references: list[float]
) -> None:
    chart = limit_chart(make_curves(limits=(LimitCounts(None, None, (6, 5, 0), (0, 0, 4), cap),)))
    (panel,) = chart.panels
    assert [one.value for one in panel.verticals] == references  # type: ignore[union-attr]


def test_a_cap_that_changes_has_a_panel_for_each_time() -> None:
    before = LimitCounts(None, 60.0, (6, 5, 0), (0, 0, 4), 2)
    after = LimitCounts(60.0, None, (6, 0, 0), (0, 7, 0), 1)
    titles = [panel.title for panel in limit_chart(make_curves(limits=(before, after))).panels]
    assert titles == ["before 60 s, cap 2", "from 60 s on, cap 1"]


def test_equal_curves_give_equal_pages() -> None:
    assert render_twin(make_curves(), "twin") == render_twin(make_curves(), "twin")
