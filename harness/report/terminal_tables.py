"""Tables and paragraphs of the terminal, none of them wider than it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.report.tables import Column

WIDTH = 80


def pack(groups: Sequence[Sequence[Column]], room: int) -> list[list[Column]]:
    """Return the columns side by side if they fit into `room` characters, else block by block.

    A group that is too wide for one block goes on in the next; no column is left out.
    """
    together = [column for group in groups for column in group]
    if sum(column.width + 1 for column in together) <= room:
        return [together]
    blocks: list[list[Column]] = []
    for group in groups:
        left = 0
        for column in group:
            if column.width + 1 > left:
                blocks.append([])
                left = room
            blocks[-1].append(column)
            left -= column.width + 1
    return blocks


def wrapped(paragraph: str) -> list[str]:
    """Break a paragraph into lines of `WIDTH`; spaces that must not break do not."""
    lines = textwrap.wrap(paragraph, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]
