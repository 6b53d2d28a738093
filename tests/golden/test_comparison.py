"""The comparison with golden runs sees every change, and only through its map of renames."""

from __future__ import annotations

from typing import Any

from tests.golden.comparison import (
    ABSENT,
    Difference,
    compare_rows,
    compare_table,
    flatten,
    in_old_names,
)


def call(**fields: Any) -> dict[str, Any]:
    record = {"cell": "a", "repeat": 0, "call": 1, "done": 5, "share": 0.5, "pauses": [{"end": 3}]}
    return flatten({**record, **fields}, "calls")


def test_equal_records_do_not_differ_whatever_their_order() -> None:
    assert compare_table("calls", [call(call=1), call(call=2)], [call(call=2), call(call=1)]) == []


def test_a_changed_value_is_named_with_its_record_and_field() -> None:
    (found,) = compare_table("calls", [call()], [call(pauses=[{"end": 4}])])
    assert found == Difference("calls a/0/1", "calls.pauses[0].end", 3, 4)
    assert str(found) == "calls a/0/1: calls.pauses[0].end: old 3, new 4"


def test_a_missing_and_an_additional_record_differ() -> None:
    assert compare_table("calls", [call()], [])[0].new == ABSENT
    assert compare_table("calls", [], [call()])[0].old == ABSENT


def test_floats_may_differ_in_the_last_digits_and_integers_may_not() -> None:
    assert compare_rows("", call(share=0.5), call(share=0.5 * (1 + 1e-12))) == []
    assert compare_rows("", call(share=0.5), call(share=0.5 * (1 + 1e-8)))
    assert compare_rows("", call(done=10**12), call(done=10**12 + 1))
    assert compare_rows("", call(done=1), call(done=True))
    assert compare_rows("", call(done=0), call(done=None))


def test_a_field_that_is_added_has_to_be_listed() -> None:
    new = call(cost={"usd": 1.0})
    assert [it.field for it in compare_rows("", call(), new)] == ["calls.cost.usd"]
    assert compare_rows("", call(), new, added=frozenset({"calls.cost"})) == []
    assert compare_rows("", call(), new, added=frozenset({"calls.cos"}))


def test_renamed_fields_and_values_are_read_under_their_old_names() -> None:
    new = flatten({"setting": "b", "waits": [{"to": 1}, {"to": 2}], "rest": 1}, "calls")
    names = {"calls.cell": "calls.setting", "calls.pauses[].end": "calls.waits[].to"}
    assert in_old_names(new, names, {"calls.cell": {"a": "b"}}) == {
        "calls.cell": "a", "calls.pauses[0].end": 1, "calls.pauses[1].end": 2, "calls.rest": 1,
    }  # fmt: skip
