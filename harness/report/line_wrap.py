"""Paragraphs for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.analysis.settings import CellSettings, swept_keys

WIDTH = 80
"""What every terminal shows."""


def wrapped(paragraph: str, bullet: str = "", width: int = WIDTH, indent: str = "  ") -> list[str]:
    """Break a paragraph into lines, but not at a no-break space.

    `bullet`: the start of an item of a list; without one, later lines begin with `indent`.
    """
    lines = textwrap.wrap(
        paragraph,
        width,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet) or indent,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]


def legend(cells: Sequence[CellSettings], width: int = WIDTH) -> list[str]:
    """Return lines that explain the numbers of values that are too long for a column."""
    said = [one for key in swept_keys(cells) if len(key.values) > 1 for one in key.legend()]
    return [line for one in said for line in wrapped(one, width=width)]
