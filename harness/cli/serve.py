"""`harness serve`: runs the simulated provider alone."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

from harness.config.tables import parse_override
from harness.simulator.profiles import load_profile, shipped_profiles
from harness.simulator.server import serve


def serve_profile(options: argparse.Namespace) -> int:
    """Serve until interrupted, or list the profiles."""
    if options.list:
        for profile in shipped_profiles():
            name, indent = f"{profile.name:<19} ", " " * 20
            print(textwrap.fill(name + profile.description, 80, subsequent_indent=indent))
        return 0
    profile = load_profile(options.profile, dict(map(parse_override, options.set)), "--set ")

    def ready(base_url: str) -> None:
        text = f"simulated provider {profile.name}: {base_url} (no key needed; Ctrl-C stops it)"
        print(json.dumps({"base_url": base_url}) if options.json else text, flush=True)

    serve(
        profile,
        host=options.host,
        port=options.port,
        seed=options.seed,
        time_scale=options.time_scale,
        log=Path(options.log) if options.log else None,
        ready=ready,
        warn=lambda message: print(f"harness: {message}", file=sys.stderr, flush=True),
        until_stdin_closes=options.until_stdin_closes,
    )
    sys.stdout.flush()
    return 0
