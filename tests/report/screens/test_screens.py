"""The first screen of every shipped scenario, as text files that people can read."""

from __future__ import annotations

import pytest

from harness.report.answer_text import run_answer
from harness.report.first_screen import LINES
from tests.report.screens.recorded import DATA, WIDTHS, drawn, names, recorded, stored


def test_every_shipped_scenario_has_its_screens_and_no_other() -> None:
    assert sorted(path.name for path in DATA.glob("*.txt")) == sorted(
        stored(name, width).name for name in names() for width in WIDTHS
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", names())
def test_the_screen_of_a_scenario(name: str, width: int) -> None:
    summary = recorded(name)
    text = drawn(summary, width)
    assert text == stored(name, width).read_text(), "python -m tests.report.screens --draw"
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= width
    sentence = run_answer(summary).sentence.replace("\u00a0", " ")
    assert " ".join(lines[:3]).startswith(sentence)
    assert [line for line in lines if line.startswith("Report: ")]
    commands = lines.index(next(line for line in lines if line.startswith("Next: ")))
    assert len([line for line in lines[commands:] if not line.startswith(" " * 8)]) == 3
