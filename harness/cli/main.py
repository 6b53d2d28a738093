"""The commands, thin: they read what the user wrote, call the parts and say what came of it.

Imports of the parts stand where they are used, so that `harness --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from harness import __version__
from harness.records.errors import HarnessError

INTERRUPTED = 130
HUNG_UP = 141
"""What a shell says of a program that SIGPIPE ended."""
_NOT_WRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        print(end="", flush=True)
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        return _gave_up(error)
    return code


def _gave_up(error: OSError) -> int:
    """Say in one line what could not be written, but not that nobody reads on (`| head`).

    What no part has put into words of its own is mostly standard output: full, or closed.
    """
    hung_up = isinstance(error, BrokenPipeError)
    if not hung_up:
        where = error.filename or "the output"
        print(f"harness: {where}: cannot be written ({error.strerror})", file=sys.stderr)
    with contextlib.suppress(OSError):  # else what it still holds is complained of at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return HUNG_UP if hung_up else HarnessError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Measures how an LLM workflow should call its model: how many calls at once, "
        "which retry policy, and what async buys.",
        epilog="Exit codes: 0 done; 1 no workflow succeeded, or `compare` found a regression; "
        "2 bad input or a failed preflight; 3 a budget stopped it; 4 storage or internal error; "
        "130 interrupted, what had finished by then is saved; 141 nobody read the output on.",
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
        help="run a scenario and show what came of it",
        description="Runs every cell of a scenario and writes records, spans, a summary and plots "
        "into a new directory.",
    )
    run.set_defaults(command=_run)
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
        help="replace a setting, for example --set load.workflows=20 (may be repeated)",
    )
    run.add_argument(
        "--out", metavar="DIR", help="run directory (default: results/<UTC time>-<name>)"
    )
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run that was killed, interrupted or out of disk: what it finished "
        "stays; of the settings only --set budget.* may change",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="show the cells, how many calls and tokens, how long and at what cost; run nothing",
    )
    run.add_argument(
        "--yes", action="store_true", help="do not ask before a run that may cost money"
    )
    run.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that play the trials in virtual time (default: one a core)",
    )
    run.add_argument("--quiet", action="store_true", help="show nothing but errors")
    run.add_argument("--json", action="store_true", help="print summary.json instead of the table")
    run.add_argument(
        "--no-preflight", action="store_true", help="do not try the endpoint before the run"
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
        help="at the end wait until every span is delivered (default: two seconds at most; the "
        "rest can be sent by `harness trace export`)",
    )
    run.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        help="log to standard error: failed attempts as they happen, phases and workflows when "
        "their trial has ended; debug adds every attempt and call (default: no log)",
    )
    run.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="of a line (%(default)s)"
    )


def _add_scenarios(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    scenarios = commands.add_parser(
        "scenarios",
        help="list the scenarios that come with the harness",
        description="Lists the scenarios that `harness run` knows by name.",
    )
    scenarios.set_defaults(command=_scenarios)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="make the summary, plots and report.html of a run again",
        description="Makes everything again that is made from a run's records; nothing is run.",
    )
    report.set_defaults(command=_report)
    report.add_argument("run", metavar="RUN", help="the run's directory")
    report.add_argument(
        "--only",
        metavar="NAME",
        help="draw this plot alone, as SVG and PNG, for example heat-map",
    )


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two runs, and fail on a regression",
        description="Compares the cells that two runs of the same workload have in common, with "
        "intervals.",
        epilog="Exit codes: 0 done; 1 a --fail-on rule was broken by more than chance; 2 the runs "
        "cannot be compared.",
    )
    compare.set_defaults(command=_compare)
    compare.add_argument("base", metavar="BASE", help="the directory of the run to compare with")
    compare.add_argument("new", metavar="NEW", help="the directory of the run that is judged")
    compare.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="RULE",
        help="exit with 1 when a quantity changed so far and it is not chance, for example "
        "'workflow_p95>+10%%' or 'success_rate<-1%%' (may be repeated)",
    )
    compare.add_argument("--json", action="store_true", help="print everything as JSON")


def _add_trace(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    trace = commands.add_parser(
        "trace",
        help="show why workflows were slow, or send a run's traces to a collector",
        usage="harness trace RUN [KEY | [--failed] [--slowest N]] [--spans | --json]\n"
        "       harness trace export RUN [--endpoint URL] [--again]",
        description="Draws workflows call by call, with the critical path; without a choice the "
        "slowest one, and what held each cell up. With export: makes the traces of a stored run "
        "again, the same spans with the same ids, and sends to the collector what it has not "
        "acknowledged yet.",
    )
    trace.set_defaults(command=_trace)
    trace.add_argument("run", metavar="RUN", help="the run's directory (after the word export)")
    trace.add_argument(
        "key", metavar="KEY", nargs="?", help="one workflow: cell/repeat/workflow, or a trace id"
    )
    trace.add_argument("--slowest", metavar="N", type=_count, help="the N slowest ones")
    trace.add_argument("--failed", action="store_true", help="the failed and degraded workflows")
    trace.add_argument("--spans", action="store_true", help="print the spans as trees instead")
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
        help="send everything, also what was acknowledged: for a collector that has forgotten it",
    )


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export",
        help="write the records of a run as CSV or Parquet",
        description="Writes attempts, calls, workflows and trials as flat tables; times are "
        "nanoseconds, as in the records.",
    )
    export.set_defaults(command=_export)
    export.add_argument("run", metavar="RUN", help="the run's directory")
    export.add_argument(
        "--format", choices=["csv", "parquet"], default="csv", help="(default: %(default)s)"
    )
    export.add_argument("--out", metavar="DIR", help="where to write (default: RUN/export)")


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the simulated provider",
        description="Serves an OpenAI-compatible API with a model of time behind it on "
        "127.0.0.1, until interrupted.",
    )
    serve.set_defaults(command=_serve)
    serve.add_argument(
        "profile",
        nargs="?",
        default="deepseek-reasoner",
        help="name of a shipped profile or path of a TOML file (default: %(default)s)",
    )
    serve.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a key of the profile, for example --set concurrency_cap=4",
    )
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one (%(default)s)")
    serve.add_argument("--seed", type=int, default=0, help="of lengths and times (%(default)s)")
    serve.add_argument(
        "--time-scale",
        type=float,
        default=1.0,
        help="real seconds that one simulated second lasts (%(default)s)",
    )
    serve.add_argument("--log", metavar="FILE", help="write the provider's own log (JSON lines)")
    serve.add_argument("--list", action="store_true", help="list the shipped profiles and exit")
    serve.add_argument("--json", action="store_true", help="say where it listens as JSON")
    serve.add_argument(
        "--until-stdin-closes", action="store_true", help="end when standard input is closed"
    )


def _count(text: str) -> int:
    """Read a number of at least 1, as argparse wants it."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("write a number of at least 1")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from harness.cli.run import run_scenario

    return run_scenario(options)


def _scenarios(options: argparse.Namespace) -> int:
    from harness.cli.scenarios import list_scenarios

    return list_scenarios()


def _report(options: argparse.Namespace) -> int:
    from harness.cli.report import report_run

    return report_run(options)


def _compare(options: argparse.Namespace) -> int:
    from harness.cli.compare import compare_command

    return compare_command(options)


def _trace(options: argparse.Namespace) -> int:
    from harness.cli.trace import trace

    return trace(options)


def _export(options: argparse.Namespace) -> int:
    from harness.cli.export import export_tables

    return export_tables(options)


def _serve(options: argparse.Namespace) -> int:
    from harness.cli.serve import serve_profile

    return serve_profile(options)
