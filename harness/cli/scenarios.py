"""`harness scenarios`: lists the scenarios that come with the harness, or prints one."""

from __future__ import annotations

import argparse
import textwrap

from harness.config.shipped_scenarios import described, find

_WIDTH = 80


def list_scenarios(options: argparse.Namespace) -> int:
    """Print the file of one scenario, or the name and the description of each shipped one."""
    if options.name is not None:
        print(find(options.name).read_text(encoding="utf-8"), end="")
        return 0
    found = described()
    width = max(map(len, found), default=0)
    for name, description in found.items():
        line = f"{name:<{width}}  {description}"
        print(textwrap.fill(line, _WIDTH, subsequent_indent=" " * (width + 2)))
    return 0
