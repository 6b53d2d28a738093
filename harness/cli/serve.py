"""`harness serve`: the simulated provider on its own."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from harness.records.errors import InputError
from harness.simulator.profiles import load_profile, shipped_profiles
from harness.simulator.server import serve


def serve_profile(options: argparse.Namespace) -> int:
    """Serve until interrupted, or list the profiles."""
    if options.list:
        for profile in shipped_profiles():
            name, indent = f"{profile.name:<19} ", " " * 20
            print(textwrap.fill(name + profile.description, 80, subsequent_indent=indent))
        return 0
    if not 0 < options.time_scale <= 1:
        raise InputError(f"--time-scale {options.time_scale}: give a number above 0, up to 1")
    profile = load_profile(options.profile, profile_overrides(options.set), "--set ")

    def ready(base_url: str) -> None:
        if options.json:
            print(json.dumps({"base_url": base_url}), flush=True)
        else:
            print(
                f"simulated provider {profile.name}: {base_url} (no key needed; Ctrl-C ends it)",
                flush=True,
            )

    serve(
        profile,
        port=options.port,
        seed=options.seed,
        time_scale=options.time_scale,
        log=Path(options.log) if options.log else None,
        ready=ready,
        until_stdin_closes=options.until_stdin_closes,
    )
    sys.stdout.flush()
    return 0


def profile_overrides(settings: list[str]) -> dict[str, Any]:
    """Return the keys and values of `KEY=VALUE` settings; a bare word is a string."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set {setting}: must have the form key=value")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = text
    return overrides
