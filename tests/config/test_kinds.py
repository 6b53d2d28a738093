"""Kinds are found by name, built in or in another package; a mistake is one placed error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from harness.config.config_base import Section
from harness.config.kinds import KindTable
from harness.config.validation_messages import message_of


class CircleSection(Section):
    kind: Literal["circle"]
    radius: int = 1


def itself(kind: type[Section]) -> type[Section]:
    return kind


SHAPES = KindTable("harness.test-shapes", {"circle": f"{__name__}:CircleSection"}, itself)


class Drawing(Section):
    shape: Annotated[SerializeAsAny[Section], BeforeValidator(SHAPES.validate)]


def problem(value: object) -> tuple[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"shape": value})
    (error,) = caught.value.errors()
    return error["loc"], message_of(error, {"shape": value}).text


@pytest.fixture
def _square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with the kinds `square`, which works, and `torn`, which does not."""
    (tmp_path / "squares.py").write_text(
        "from typing import Literal\n"
        "from harness.config.config_base import Section\n"
        "class SquareSection(Section):\n"
        "    kind: Literal['square']\n"
        "    side: int = 2\n"
    )
    installed = tmp_path / "squares-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: squares\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(
        "[harness.test-shapes]\nsquare = squares:SquareSection\ntorn = squares:NOTHING\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("squares", None)


def test_a_built_in_kind_reads_its_keys() -> None:
    drawing = Drawing.model_validate({"shape": {"kind": "circle", "radius": 3}})
    assert drawing.shape == CircleSection(kind="circle", radius=3)
    assert SHAPES.of(drawing.shape) is CircleSection
    assert drawing.model_dump(mode="json") == {"shape": {"kind": "circle", "radius": 3}}


def test_a_mistake_inside_is_placed_under_the_key() -> None:
    assert problem({"kind": "circle", "radius": "3"})[0] == ("shape", "radius")


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    assert problem({"kind": "circel"}) == (
        ("shape",),
        "shape.kind = 'circel': unknown kind (did you mean 'circle'?); use one of: circle",
    )
    assert problem({"kind": 3})[1] == "shape.kind = 3: unknown kind; use one of: circle"
    assert problem({})[1] == "shape.kind: missing; add it"


def test_a_value_that_is_not_a_table_is_refused() -> None:
    assert problem(3)[0] == ("shape",)


@pytest.mark.usefixtures("_square")
def test_a_kind_of_another_package_is_as_complete() -> None:
    drawing = Drawing.model_validate({"shape": {"kind": "square", "side": 5}})
    assert drawing.model_dump() == {"shape": {"kind": "square", "side": 5}}
    assert SHAPES.of(drawing.shape) is type(drawing.shape)
    assert problem({"kind": "square", "side": "x"})[0] == ("shape", "side")
    assert SHAPES.names() == ("circle", "square", "torn")


@pytest.mark.usefixtures("_square")
def test_a_package_that_cannot_be_used_is_one_line() -> None:
    assert problem({"kind": "torn"})[1] == (
        "shape.kind = 'torn': its package cannot be used (AttributeError: module 'squares' has "
        "no attribute 'NOTHING'); repair or uninstall that package"
    )
