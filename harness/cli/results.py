"""Shows the results of a run on standard output: the first screen, or all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.analysis.model import Summary
from harness.cli.views import Views
from harness.report.console import Output, say
from harness.report.line_wrap import wrapped
from harness.report.next_steps import Rerun
from harness.store.run_directory import read_run, read_workflows
from harness.telemetry.export import TRACES
from harness.telemetry.jaeger import jaeger_of, links


def show_results(
    summary: Summary,
    directory: Path,
    views: Views,
    *,
    verbose: bool,
    interrupted: bool = False,
    rerun: Rerun | None = None,
) -> None:
    """Write the first screen and, if `verbose`, everything else; then links to Jaeger.

    `interrupted`: just now, by Ctrl-C. `rerun`: how to run the scenario again, if known. The texts
    are written outside of the views: an error of standard output is not a failed view.
    """
    # Imported late, as it imports the analysis.
    from harness.report.first_screen import (
        REPORT_FILE,
        first_screen,
        interrupted_screen,
        screen_width,
    )
    from harness.report.terminal import render_summary

    output = Output()
    width = screen_width(output.width)
    with output.capture() as capture, views.making("the results", views.report_again):
        if interrupted:
            say(output, *interrupted_screen(summary, directory, width))
        else:
            has_report = REPORT_FILE not in views.failed and (directory / REPORT_FILE).exists()
            lines = first_screen(summary, directory, width, has_report=has_report, rerun=rerun)
            say(output, *lines)
        if verbose:
            say(output, "")
            render_summary(summary, directory, output)
    for text in (capture.get(), _links(directory, views)):
        sys.stdout.write(text)


def _links(directory: Path, views: Views) -> str:
    """Return the links to delivered traces in Jaeger as text; empty if there are none."""
    lines: list[str] = []
    with views.making("the links to Jaeger", views.traces_again):
        jaeger = jaeger_of(directory / TRACES, read_run(directory).run_id, os.environ)
        found = links(read_workflows(directory), jaeger) if jaeger else []
        for link in found:
            lines += [*wrapped(f"Jaeger, {link.what}:"), f"  {link.url}"]
    return "".join(f"{line}\n" for line in lines)
