"""`harness tune`: finds the best setting of a scenario with few requests."""

from __future__ import annotations

import argparse

from harness.cli.run import begin_or_resume


def tune(options: argparse.Namespace) -> int:
    """Tune the scenario that the options name, or continue a tune, and show the results."""
    return begin_or_resume(options, is_tune=True)
