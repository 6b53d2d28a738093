"""`harness scenarios`: the scenarios that come with the harness."""

from __future__ import annotations

import argparse
import textwrap

from harness.config.shipped_scenarios import described

_WIDTH = 80


def list_scenarios(_: argparse.Namespace) -> int:
    """Print the name and the description of every shipped scenario."""
    found = described()
    width = max(map(len, found), default=0)
    for name, description in found.items():
        line = f"{name:<{width}}  {description}"
        print(textwrap.fill(line, _WIDTH, subsequent_indent=" " * (width + 2)))
    return 0
