"""The command line: the parser, which names the function of each command, and the exit codes.

The module of a command is imported when it runs, so that `harness --help` starts fast.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

from harness import __version__
from harness.records.errors import HarnessError

DEBUG_VARIABLE = "HARNESS_DEBUG"
"""Environment variable; when it is set, the traceback of an internal error is printed too."""

EXIT_INTERRUPTED = 130
HUNG_UP = 141
"""The exit code that a shell reports for a program that SIGPIPE ended."""
_NOT_WRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = pkgutil.resolve_name(options.command)(options)
        print(end="", flush=True)
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            return _output_failed(error)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"harness: internal error ({text}); {DEBUG_VARIABLE}=1 prints the traceback",
            file=sys.stderr,
        )
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)
        return HarnessError.exit_code
    return code


def _output_failed(error: OSError) -> int:
    """Print one line that names what could not be written, and return the exit code.

    A closed output (`| head`) is not reported. Errors of files have their own messages elsewhere,
    so this is mostly about standard output.
    """
    hung_up = isinstance(error, BrokenPipeError)
    if not hung_up:
        where = error.filename or "the output"
        print(f"harness: {where}: cannot be written ({error.strerror})", file=sys.stderr)
    with contextlib.suppress(OSError):  # or the interpreter reports unwritten output at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return HUNG_UP if hung_up else HarnessError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Measures how an LLM workflow should call its model: how many calls at once, "
        "which retry policy, and what async gains.",
        epilog="Exit codes: 0 done; 1 no workflow succeeded, or `compare` found a regression; "
        "2 invalid input, or a check before the run failed; 3 a budget stopped the run; 4 storage "
        "or internal error; 130 interrupted, everything that had finished is saved; 141 the reader "
        "of the output closed it.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_scenarios(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_trace(commands)
    _add_serve(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run a scenario and show its results",
        description="Runs every cell of a scenario. Writes records, spans, a summary, plots and a "
        "report into a new directory.",
    )
    run.set_defaults(command="harness.cli.run:run_scenario")
    run.add_argument(
        "scenario",
        nargs="?",
        help="path of a scenario file (TOML), or a name that `harness scenarios` lists",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a key of the scenario, for example --set load.workflows=20 (repeatable)",
    )
    run.add_argument(
        "--out", metavar="DIR", help="run directory (default: results/<UTC time>-<name>)"
    )
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="continue a run that was killed, interrupted or stopped by a full disk; finished "
        "workflows are kept; only --set budget.* is allowed",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="show the cells and the expected calls, tokens, time and cost; run nothing",
    )
    run.add_argument(
        "--yes",
        action="store_true",
        help="do not ask for confirmation before a run that may cost money",
    )
    run.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="number of processes for trials in virtual time (default: the number of cores)",
    )
    run.add_argument("--quiet", action="store_true", help="show only errors")
    run.add_argument("--json", action="store_true", help="print summary.json instead of the table")
    run.add_argument(
        "--no-preflight", action="store_true", help="do not connect to the endpoint before the run"
    )
    _add_telemetry(run)


def _add_telemetry(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--otlp",
        metavar="URL",
        help="send the spans over OTLP/HTTP, for example http://127.0.0.1:4318 "
        "(default: the standard OTEL_* variables)",
    )
    run.add_argument(
        "--otlp-wait",
        action="store_true",
        help="wait at the end until every span is delivered (default: at most two seconds; "
        "`harness trace export` can send the rest)",
    )
    run.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        help="log to standard error: failed attempts when they happen, phases and workflows after "
        "their trial; debug adds every attempt and call (default: no log)",
    )
    run.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="format of log lines (default: %(default)s)",
    )


def _add_scenarios(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    scenarios = commands.add_parser(
        "scenarios",
        help="list the scenarios that come with the harness",
        description="Lists the scenarios that `harness run` accepts by name.",
    )
    scenarios.set_defaults(command="harness.cli.scenarios:list_scenarios")


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="make the summary, the plots and the report of a run again",
        description="Makes the summary, the plots and report.html again from the records of a run.",
    )
    report.set_defaults(command="harness.cli.report:report_run")
    report.add_argument("run", metavar="RUN", help="the run directory")
    report.add_argument(
        "--only",
        metavar="NAME",
        help="draw only this plot, as SVG and PNG, for example heat-map",
    )
    report.add_argument(
        "--text", action="store_true", help="with --only: print the plot as text, and write no file"
    )


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two runs, and fail on a regression",
        description="Compares the cells that two runs of the same workload have in common, and "
        "shows each change with its interval.",
        epilog="Exit codes: 0 no rule was broken; 1 a significant change broke a --fail-on rule; "
        "2 the runs cannot be compared.",
    )
    compare.set_defaults(command="harness.cli.compare:compare_command")
    compare.add_argument("base", metavar="BASE", help="directory of the run to compare with")
    compare.add_argument("new", metavar="NEW", help="directory of the run to judge")
    compare.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="RULE",
        help="exit with 1 if this metric changed by more and the change is significant, for "
        "example 'workflow_p95>+10%%' or 'success_rate<-1%%' (repeatable)",
    )
    compare.add_argument("--json", action="store_true", help="print all metrics as JSON")


def _add_trace(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    trace = commands.add_parser(
        "trace",
        help="show why workflows were slow, or send a run's traces to a collector",
        usage="harness trace RUN [KEY | [--failed] [--slowest N]] [--spans | --json]\n"
        "       harness trace export RUN [--endpoint URL] [--again]",
        description="Draws workflows call by call, with the critical path. Without a selection: "
        "the slowest workflow, and a summary of each cell. `harness trace export` makes the traces "
        "of a stored run again, with the same ids, and sends the spans that the collector has not "
        "acknowledged.",
    )
    trace.set_defaults(command="harness.cli.trace:trace")
    trace.add_argument("run", metavar="RUN", help="the run directory")
    trace.add_argument(
        "key", metavar="KEY", nargs="?", help="one workflow: cell/repeat/workflow, or a trace id"
    )
    trace.add_argument("--slowest", metavar="N", type=_count, help="the N slowest workflows")
    trace.add_argument("--failed", action="store_true", help="the failed and degraded workflows")
    trace.add_argument("--spans", action="store_true", help="print the spans as trees")
    trace.add_argument("--json", action="store_true", help="print the critical paths as JSON")
    trace.add_argument(
        "--endpoint",
        metavar="URL",
        help="where to send the spans over OTLP/HTTP, for example http://127.0.0.1:4318 "
        "(default: the standard OTEL_* variables)",
    )
    trace.add_argument(
        "--again",
        action="store_true",
        help="send all spans, also acknowledged ones, for a collector that lost them",
    )


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export",
        help="write the records of a run as CSV or Parquet",
        description="Writes attempts, calls, workflows and trials as flat tables. Times are in "
        "nanoseconds, as in the records.",
    )
    export.set_defaults(command="harness.cli.export:export_tables")
    export.add_argument("run", metavar="RUN", help="the run directory")
    export.add_argument(
        "--format",
        choices=["csv", "parquet"],
        default="csv",
        help="file format (default: %(default)s)",
    )
    export.add_argument("--out", metavar="DIR", help="output directory (default: RUN/export)")


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the simulated provider",
        description="Serves an OpenAI-compatible API with simulated answers, times, limits and "
        "faults on 127.0.0.1, until interrupted.",
    )
    serve.set_defaults(command="harness.cli.serve:serve_profile")
    serve.add_argument(
        "profile",
        nargs="?",
        default="deepseek-reasoner",
        help="a shipped profile, or the path of a TOML file (default: %(default)s)",
    )
    serve.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a key of the profile, for example --set concurrency_cap=4",
    )
    serve.add_argument(
        "--port", type=int, default=8000, help="0 chooses a free port (default: %(default)s)"
    )
    serve.add_argument(
        "--seed", type=int, default=0, help="seed of lengths and times (default: %(default)s)"
    )
    serve.add_argument(
        "--time-scale",
        type=float,
        default=1.0,
        help="real seconds in one simulated second (default: %(default)s)",
    )
    serve.add_argument("--log", metavar="FILE", help="write the log of the provider (JSON lines)")
    serve.add_argument("--list", action="store_true", help="list the shipped profiles and exit")
    serve.add_argument("--json", action="store_true", help="print the address as JSON")
    serve.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when standard input closes"
    )


def _count(text: str) -> int:
    """Return the number of at least 1 that `text` holds; for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
