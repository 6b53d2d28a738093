"""The colours of the report, in both schemes, by the arithmetic of WCAG 2.2.

https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio; 1.4.3 asks 4.5:1 of text, 1.4.11 asks 3:1 of what
a figure is drawn with.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import harness.report.html.page as page

STYLE = (Path(page.__file__).with_name("templates") / "style.css").read_text()
PAIRS = dict(re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\)", STYLE))
SCHEMES = ("light", "dark")
MARKS = ("blue", "orange", "green", "pink", "vermillion", "sky", "pale", "dark")
INSIDE = ("pale", "orange", "vermillion", "sky", "blue", "green", "dark")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def colour(name: str, scheme: str) -> str:
    return str(PAIRS[name].split(", ")[SCHEMES.index(scheme)])


def text_inside(look: str, scheme: str) -> str:
    """Return the colour of numbers inside a bar: of the last rule that names it, else of all."""
    rules = re.findall(r"(svg text\.in[^{]*)\{ fill: ([^;]+);", STYLE)
    fill = [value for names, value in rules if f".{look}" in names] or [rules[0][1]]
    pair = re.findall(r"#\w+", fill[-1])
    return str(pair[SCHEMES.index(scheme)] if len(pair) == 2 else pair[0])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["ink", "muted", "link", "good", "bad"])
@pytest.mark.parametrize("ground", ["ground", "card"])
def test_text_can_be_read_on_every_ground(scheme: str, text: str, ground: str) -> None:
    assert contrast(colour(text, scheme), colour(ground, scheme)) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tags_and_marked_rows_can_be_read(scheme: str) -> None:
    assert contrast(colour("tag", scheme), colour("tag-ground", scheme)) >= 4.5
    for text in ("ink", "muted"):
        assert contrast(colour(text, scheme), colour("best", scheme)) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mark", MARKS)
def test_marks_stand_out_from_the_card(scheme: str, mark: str) -> None:
    assert contrast(colour(mark, scheme), colour("card", scheme)) >= 3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("look", INSIDE)
def test_numbers_inside_a_bar_can_be_read(scheme: str, look: str) -> None:
    assert f".{look} {{ fill: var(--{look})" in STYLE
    assert contrast(text_inside(look, scheme), colour(look, scheme)) >= 4.5
