"""`harness schema`: the JSON Schema of a scenario file."""

from __future__ import annotations

import argparse
import json

from harness.bench.scenario_schema import scenario_schema


def print_schema(_: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(scenario_schema(), indent=1, ensure_ascii=False))
    return 0
