"""Tables and their data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.model import Figure
from harness.report.tables import Column, Table
from harness.report.wording import percent
from tests.report.html.reading import csv_rows
from tests.report.subjects import about
from tests.report.summaries import make_summary

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(st.lists(st.tuples(TEXT, st.none() | st.floats(allow_nan=False)), min_size=1))
def test_csv_gives_back_what_was_put_in(rows: list[tuple[str, float | None]]) -> None:
    table = Table(
        "t", "", (
            Column("name", "name", [name for name, _ in rows]),
            Column("value", "value", [value for _, value in rows]),
        ),
    )  # fmt: skip
    read = csv_rows(table.csv(simulated=False))
    assert [float(row["value"]) if row["value"] else None for row in read] == [
        value for _, value in rows
    ]
    for row, (name, _) in zip(read, rows, strict=True):
        assert row["name"] in (name, f"'{name}")
        assert not row["name"].startswith(("=", "+", "-", "@"))


def test_a_figure_has_its_bounds_in_columns_of_their_own_even_where_some_have_none() -> None:
    figures = [Figure(value=2.0, low=1.0, high=3.0), Figure(value=4.0), None]
    table = Table("t", "", (Column("a", "a", figures),))
    assert table.csv(simulated=True) == (
        "a,a_low,a_high,simulated\n2.0,1.0,3.0,true\n4.0,,,true\n,,,true\n"
    )


def test_a_column_without_any_value_is_left_out_of_the_page_but_not_of_the_data() -> None:
    table = Table("t", "", (Column("a", "a", ["x", "y"]), Column("b", "b", [None, None])))
    assert [column.head for column in table.shown] == ["a"]
    assert table.csv(simulated=False) == "a,b\nx,\ny,\n"


def test_ids_in_sentences_become_names_and_one_id_inside_another_does_no_harm() -> None:
    whole = about(make_summary(["sync_1_none_attempt", "async_1_none_attempt"]))
    assert whole.named("sync_1_none_attempt, async_1_none_attempt.") == "sync, async 1."
    for other in ("my-sync_1_none_attempt", "async_1_none_attempts"):
        assert whole.named(other) == other
    assert about(make_summary([])).named("left alone") == "left alone"


def test_the_recommended_cell_stands_out() -> None:
    table = about(make_summary(["sync_1_none_attempt", "async_2_none_attempt"])).of_cells(
        "t", "", ()
    )
    assert [(row.head.text, row.marked) for row in table.rows] == [
        ("sync", False),
        ("async 2", True),
    ]


def test_an_interval_of_percentages_has_one_percent_sign() -> None:
    share = Figure(value=0.5, low=0.25, high=0.75)
    (row,) = Table("t", "", (Column("a", "a", ["x"]), Column("b", "b", [share], percent))).rows
    assert (row.values[0].text, row.values[0].interval) == ("50\u00a0%", "25–75\u00a0%")


def test_the_bounds_of_a_decrease_have_no_dash_beside_a_minus_sign() -> None:
    def change(value: float) -> str:
        return f"{'−' if value < 0 else '+'}{abs(value):.0f}\u00a0%"

    fewer, either = Figure(value=-20, low=-24, high=-17), Figure(value=-5, low=-9, high=2)
    columns = (Column("a", "a", ["x", "y"]), Column("b", "b", [fewer, either], change))
    rows = Table("t", "", columns).rows
    said = [row.values[0].interval for row in rows]
    assert said == ["−24 to −17\u00a0%", "−9–+2\u00a0%"]


def test_a_table_is_wide_when_its_longest_values_do_not_fit_into_half_a_screen() -> None:
    narrow = (Column("cell", "c", ["async 2"]), Column("p50", "p", [1.0]))
    assert not Table("t", "", narrow).is_wide
    assert Table("t", "", (*narrow, Column("advice", "a", ["word " * 16]))).is_wide
