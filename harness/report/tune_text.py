"""What a tune did, in words: a line for each decision, and the lines after the answer."""

from __future__ import annotations

from harness.records.tune_blocks import TuneBlock
from harness.report.wording import counted


def block_line(block: TuneBlock) -> str:
    """Return one line about a decision: what is tried, what is left and spent, and why."""
    number = f"block {block.block + 1}"
    spent = f"{block.attempts:,} requests so far"
    left = counted(len(block.open) + bool(block.leading), "setting")
    if block.end:
        return f"{number}: none, {left} left, {spent}; the tune ends: {block.end}"
    tried = ", ".join(_short(name) for name in block.cells)
    return f"{number}: {tried}; {left} left, {spent}; {block.reason}"


def _short(name: str) -> str:
    """Return the id of a setting without the permit scope that most settings have."""
    return name.removesuffix("_attempt").replace("_", " ")
