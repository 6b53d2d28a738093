"""Lines and tables on standard output, at most 80 columns wide."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from harness.report.line_wrap import WIDTH
from harness.report.tables import Column


class Output(Console):
    """Standard output; raises BrokenPipeError when the pipe is closed, as print does."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error: rich would end the process with the exit code of a regression."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def say(console: Console, *lines: str | Text) -> None:
    """Write lines without markup, highlighting or line breaks."""
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def printable(text: str) -> str:
    """Return one line with a replacement for each character that would control the terminal."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def printable_lines(text: str) -> str:
    """Return lines with a replacement for each character that would control the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def pack(groups: Sequence[Sequence[Column]], room: int) -> list[list[Column]]:
    """Return all columns in one block of `room` characters, else each group in its own blocks."""
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


def table_blocks(
    names: Sequence[Column], groups: Sequence[Sequence[Column]], width: int = WIDTH
) -> Iterator[list[str]]:
    """Yield the lines of each block of a table; each block begins with the columns in `names`."""
    room = width + 1 - sum(column.width + 1 for column in names)
    for block in pack(groups, room):
        rows = zip(*(column.lines() for column in (*names, *block)), strict=True)
        yield [" ".join(row).rstrip() for row in rows]
