"""In which settings cells differ, which belong together, and what they are called."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.analysis.settings import identity, policy_of, swept_keys, varying
from harness.records.schema import CellInfo
from tests.analysis.builders import cell_info


def cell(cell: str = "async_8_none_attempt", **settings: Any) -> CellInfo:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return msgspec.structs.replace(cell_info(cell), settings=named)


def test_cells_differ_in_built_in_and_other_settings_alike() -> None:
    cells = [
        cell(endpoint__model="a", load__in_flight=2),
        cell("sync_1_none_attempt", endpoint__model="b", load__in_flight=2),
    ]
    assert varying(cells) == ["mode", "permits", "endpoint.model"]


def test_cells_belong_to_one_policy_only_when_every_other_setting_agrees() -> None:
    one, sync = cell(endpoint__model="a"), cell("sync_1_none_attempt", endpoint__model="a")
    assert policy_of(one) == policy_of(sync)
    assert policy_of(one) != policy_of(cell(endpoint__model="b"))
    assert identity(one, ("endpoint.model",)) == identity(
        cell(endpoint__model="b"), ("endpoint.model",)
    )


def test_keys_have_the_shortest_name_that_no_other_key_has() -> None:
    keys = swept_keys(
        [
            cell(
                endpoint__override__ttft__median=1,
                endpoint__override__itl__median=2,
                retry__x__permits=3,
                workflow__sub_questions=4,
            )
        ]
    )
    assert [key.name for key in keys] == [
        "ttft.median", "itl.median", "x.permits", "sub_questions",
    ]  # fmt: skip


def test_a_long_value_is_numbered_and_the_legend_says_which() -> None:
    cells = [
        cell(endpoint__base_url=f"https://{name}.example.com/v1/chat") for name in ("one", "two")
    ]
    (key,) = swept_keys(cells)
    assert [key.phrase(one) for one in cells] == ["base-url-1", "base-url-2"]
    assert key.legend() == [
        "base-url-1 = https://one.example.com/v1/chat",
        "base-url-2 = https://two.example.com/v1/chat",
    ]


def test_a_short_value_is_said_with_its_name() -> None:
    one = cell(workflow__sub_questions=8)
    (key,) = swept_keys([one])
    assert (key.phrase(one), key.legend()) == ("sub_questions 8", [])


def test_cells_of_earlier_versions_have_no_further_settings() -> None:
    old = b'{"id":"a","mode":"sync","permits":1,"retry":"none","permit_scope":"attempt"}'
    read = msgspec.json.decode(old, type=CellInfo)
    assert read.settings == {}
    assert msgspec.json.encode(read) == old
