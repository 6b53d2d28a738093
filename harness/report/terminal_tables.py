"""Tables and paragraphs of the terminal, none of them wider than it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WIDTH = 80


class TextColumn(NamedTuple):
    """One column: two lines of heading and a value for each cell."""

    head: tuple[str, str]
    values: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        """Characters that the widest line takes."""
        return max(map(len, (*self.head, *self.values)))

    def lines(self) -> Iterator[str]:
        """Return heading and values, padded."""
        for line in (*self.head, *self.values):
            yield line.ljust(self.width) if self.left else line.rjust(self.width)


def pack(groups: Sequence[Sequence[TextColumn]], room: int) -> list[list[TextColumn]]:
    """Return the columns side by side if they fit into `room` characters, else block by block.

    A group that is too wide for one block goes on in the next; no column is left out.
    """
    together = [column for group in groups for column in group]
    if sum(column.width + 1 for column in together) <= room:
        return [together]
    blocks: list[list[TextColumn]] = []
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
