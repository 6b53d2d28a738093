"""`harness doctor`: checks a scenario and its surroundings before production."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.bench import preflight
from harness.bench.cells import scenarios_by_cell
from harness.bench.own_endpoint import drop_former_endpoint
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario
from harness.cli.run import own_endpoint
from harness.cli.views import warn
from harness.config import shipped_scenarios
from harness.doctor.findings import Examined, Finding, Level, MeasuredRun, Probed
from harness.doctor.registry import examine
from harness.engine.ledger import NANO
from harness.records.errors import InputError, PreflightError
from harness.report.console import Output, printable, say
from harness.report.line_wrap import wrapped
from harness.report.wording import counted
from harness.store.run_directory import require_run

EXIT_FAILURE = 1
_SIGNS: Mapping[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failure": ("FAILURE", "bold red"),
    "skipped": ("-", "dim"),
}


def doctor(options: argparse.Namespace) -> int:
    """Check the scenario that the options name, and return 1 if a check failed."""
    file = shipped_scenarios.find(options.scenario)
    own = own_endpoint(options)

    def change(values: dict[str, Any]) -> None:
        if own is not None:
            drop_former_endpoint(values, own, options.set)

    settings = own.settings() if own is not None else []
    scenario = load_scenario(file, [*settings, *options.set], change)
    by_cell = scenarios_by_cell(scenario)
    environment = preflight.environment_for(by_cell.values(), os.environ)
    examined = Examined(
        scenario=scenario,
        own=by_cell,
        text=file.read_text(encoding="utf-8", errors="replace"),
        environment=environment,
        folder=Path.cwd(),
        today=datetime.datetime.now(datetime.UTC).date(),
        measured=None if options.run is None else _measured(options.run),
        probed=_probed(scenario, environment, options),
    )
    if examined.measured is not None and examined.measured.summary.scenario != scenario.name:
        warn(
            f"--run {options.run}: is a run of the scenario "
            f"{printable(examined.measured.summary.scenario)}, not of {scenario.name}; its figures "
            "may not apply"
        )
    findings = list(examine(examined))
    if options.json:
        _print_json(scenario, findings)
    else:
        _show(scenario, findings, options.verbose)
    return EXIT_FAILURE if any(one.level == "failure" for _, one in findings) else 0


def _measured(name: str) -> MeasuredRun:
    from harness.analysis.selection import Dataset
    from harness.analysis.summary import summarise

    directory = require_run(name, "--run ")
    return MeasuredRun(directory, summarise(Dataset.read(directory)))


def _probed(
    scenario: Scenario, environment: Mapping[str, str], options: argparse.Namespace
) -> Probed | None:
    """Send the requests of a probe if they are allowed; return what was answered."""
    if scenario.is_virtual:
        if options.probe:
            raise InputError("--probe: the scenario runs in virtual time, so no request is sent")
        return None
    if not (options.probe or _agrees(scenario, options)):
        return None
    from harness.doctor.probe import over_budget, probe

    if (key := over_budget(scenario)) is not None:
        raise InputError(
            f"--probe: the small calls could exceed {key}; raise it, for example with --set"
        )
    try:
        return probe(scenario, preflight.secrets(scenario, environment))
    except PreflightError as error:  # a check reports a missing key
        print(*wrapped(f"Nothing was sent: {error}"), sep="\n", file=sys.stderr)
        return None


def _agrees(scenario: Scenario, options: argparse.Namespace) -> bool:
    """Ask whether requests may be sent, if there is a terminal to ask at."""
    if options.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    from harness.doctor.probe import small_calls, worst_of_probe

    worst = worst_of_probe(scenario)
    usd = f" and {worst.nano_usd / NANO:.4f} USD" if scenario.price is not None else ""
    heading = scenario.endpoint.facts.heading
    print(
        *wrapped(
            f"Send {counted(len(small_calls(scenario)), 'small call')} to {heading}: at most "
            f"{worst.tokens:,} tokens{usd}?"
        ),
        sep="\n", file=sys.stderr,
    )  # fmt: skip
    print("[y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _print_json(scenario: Scenario, findings: Iterable[tuple[str, Finding]]) -> None:
    import msgspec

    said = [{"topic": topic, **msgspec.to_builtins(one)} for topic, one in findings]
    print(json.dumps({"scenario": scenario.name, "checks": said}, indent=2))


def _show(scenario: Scenario, findings: list[tuple[str, Finding]], verbose: bool) -> None:
    console, topic_shown = Output(), ""
    counts = {level: sum(one.level == level for _, one in findings) for level in _SIGNS}
    say(
        console,
        *wrapped(
            f"{scenario.name}: {counted(counts['failure'], 'failure')}, "
            f"{counted(counts['warning'], 'warning')}, {counts['ok']} ok, "
            f"{counts['skipped']} not checked"
        ),
    )
    for topic, one in findings:
        if one.level == "skipped" and not verbose:
            continue
        if topic != topic_shown:
            say(console, "", Text(topic, style="bold"))
            topic_shown = topic
        sign, style = _SIGNS[one.level]
        first, *rest = wrapped(printable(one.reason), f"  {sign:<8} {one.check:<15} ")
        say(console, _styled(first, sign, style), *rest)
        if one.fix:
            say(console, *wrapped(printable(one.fix), f"{'':27}fix: "))
    needs = [
        option
        for option in ("--run RUN", *([] if scenario.is_virtual else ["--probe"]))
        if any(one.level == "skipped" and option in one.reason for _, one in findings)
    ]
    if needs:
        say(console, "", *wrapped(f"More checks with {' and '.join(needs)}."))


def _styled(line: str, sign: str, style: str) -> Text:
    text = Text(line)
    text.stylize(style, 2, 2 + len(sign))
    return text
