"""The options of every command, with their help, and the function that each command calls."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from harness import __version__
from harness.cli.arguments import (
    ArgumentParser,
    checked,
    natural,
    positive,
    probability,
    time_scale,
)

_Add: TypeAlias = Callable[..., None]
_Command: TypeAlias = Callable[..., _Add]


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `command` names the function to call."""
    parser = ArgumentParser(
        prog="harness",
        description="Measures how an LLM workflow should call its model: how many calls at once, "
        "which retry policy, and what async gains.",
        epilog="Exit codes: 0 done; 1 no workflow succeeded, or `compare` found a regression; "
        "2 invalid input, or a check before the run failed; 3 a budget stopped the run; 4 storage "
        "or internal error, or a process of the run died; 130 interrupted (143 by SIGTERM, 129 by "
        "SIGHUP), everything that had finished is saved; 141 the reader of the output closed it.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: str, **texts: Any) -> _Add:
        """Add a command, and return the function that adds its arguments."""
        added = commands.add_parser(name, **texts)
        added.set_defaults(command=f"harness.cli.{function}")
        return functools.partial(_add, added)

    _add_run(command)
    _add_tune(command)
    _add_gateway(command)
    _add_ask(command)
    _add_check(command)
    _add_doctor(command)
    _add_init(command)
    _add_scenarios(command)
    _add_schema(command)
    _add_report(command)
    _add_compare(command)
    _add_export(command)
    _add_trace(command)
    _add_reasoning(command)
    _add_fit(command)
    _add_whatif(command)
    _add_import(command)
    _add_serve(command)
    _add_completion(command)
    return parser


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command by its name, without `complete`."""
    (commands,) = (
        action
        for action in command_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {name: parser for name, parser in commands.choices.items() if name != "complete"}


def _add(parser: argparse.ArgumentParser, usage: str, text: str, **more: Any) -> None:
    """Add an argument, written as in its help: `--out DIR`, or `--json` for a flag.

    `--format {csv,parquet}` takes one of these words. A name of its own is that of the option:
    `run RUN`.
    """
    name, _, metavar = usage.partition(" ")
    if metavar.startswith("{"):
        more["choices"] = metavar[1:-1].split(",")
    elif metavar:
        more["metavar"] = metavar
    elif name.startswith("--"):
        more["action"] = "store_true"
    if "type" in more:
        more["type"] = checked(name, more["type"])
    parser.add_argument(name, help=text, **more)


def _add_run(command: _Command) -> None:
    add = command(
        "run",
        "run:run_scenario",
        help="run a scenario and show its results",
        description="Runs every setting of a scenario. Writes records, spans, a summary, plots and "
        "a report into a new directory.",
    )
    _add_run_options(add)


def _add_tune(command: _Command) -> None:
    add = command(
        "tune",
        "tune:tune",
        help="find the best setting of a scenario with few requests",
        description="Finds the best setting of a scenario for its objective. A twin of the "
        "provider is fitted to what has been measured so far and proposes settings; blocks of "
        "trials measure them. The tune ends when the best setting is proven, or at a limit. It "
        "leaves a run like any other.",
        epilog="[tune] in the scenario gives the settings to choose from, otherwise [sweep] does. "
        "Example: harness tune quickstart --set 'tune.permits={min=1, max=64}'. docs/tuning.md "
        "says how it decides.",
    )
    twin = (
        "a profile that `harness fit` wrote from an earlier run at this provider: the first block "
        "has the settings that lead there"
    )
    add("--twin FILE", twin)
    _add_run_options(add)


def _add_run_options(add: _Add) -> None:
    scenario = "path of a scenario file (TOML), or a name that `harness scenarios` lists"
    add("scenario", scenario, nargs="?")
    replace = (
        "replace a key of the scenario, for example --set load.workflows=20, or remove it with "
        "--set KEY= (repeatable)"
    )
    add("--set KEY=VALUE", replace, action="append", default=[])
    own = "run against this OpenAI-compatible API instead of the scenario's endpoint; with --model"
    add("--endpoint URL", own)
    add("--model M", "the model to request, with --endpoint")
    add("--api-key-env V", "environment variable of its API key (default: no key is sent)")
    add("--out DIR", "run directory (default: results/<UTC time>-<name>)")
    add(
        "--resume RUN",
        "continue a run that was killed, interrupted or stopped by a full disk; finished "
        "workflows are kept; only --set budget.* is allowed",
    )
    add("--dry-run", "show the settings and the expected calls, tokens, time and cost; run nothing")
    add("--yes", "do not ask for confirmation before a run that may cost money")
    jobs = "number of processes for trials in virtual time (default: the number of cores)"
    add("--jobs N", jobs, type=positive)
    add(
        "--dask SCHEDULER",
        "run the trials on the workers of this Dask cluster, for example tcp://10.0.0.5:8786, or "
        "the path of a scheduler file (docs/cluster.md)",
    )
    processes = (
        "number of processes that run each trial in real time together, where one core is not "
        "enough for the client (default: 1)"
    )
    add("--processes N", processes, type=positive)
    add("--quiet", "show only errors")
    _add_output_options(add)


def _add_output_options(add: _Add) -> None:
    """Add what all commands take that leave a run."""
    add("--verbose", "print all tables, the code to paste and all advice after the answer")
    add("--json", "print summary.json instead of the answer")
    add("--no-preflight", "do not connect to the endpoint before the run")
    add(
        "--otlp URL",
        "send spans and metrics by OTLP, for example to http://127.0.0.1:4318 or grpc://h:4317 "
        "(default: the standard OTEL_* variables)",
    )
    add(
        "--otlp-wait",
        "wait at the end until every span is delivered (default: at most two seconds; "
        "`harness trace export` can send the rest)",
    )
    add(
        "--log-level {debug,info,warning,error}",
        "log to standard error: failed attempts when they happen, phases and workflows after "
        "their trial; debug adds every attempt and call (default: no log)",
    )
    add("--log-format {text,json}", "format of log lines (default: %(default)s)", default="text")


def _add_gateway(command: _Command) -> None:
    add = command(
        "gateway",
        "gateway:serve_gateway",
        help="send the requests of any program under permits and a policy, and record them",
        description="Serves at a URL of this machine until Ctrl-C. Sends the requests that it gets "
        "to an OpenAI-compatible API, with a retry policy and at most so many at once, and leaves "
        "a run in which each request is a workflow. The API key stays with the gateway.",
        epilog="Example: harness gateway --endpoint https://api.example.com/v1 --api-key-env "
        "MY_API_KEY --permits 8 --retry openai-sdk. docs/gateway.md says more.",
    )
    scenario = "a scenario (path or name) for everything else: endpoint, policies, timeouts, budget"
    add("scenario", scenario, nargs="?")
    add("--endpoint URL", "base URL of an OpenAI-compatible API (default: that of the scenario)")
    add("--model M", "request this model (default: the model that the program names)")
    add("--api-key-env V", "environment variable of the API key (default: no key is sent)")
    add("--permits N", "the most requests at the API at once, or the name of a limit that adapts, "
        "such as elastic (default: 64)")  # fmt: skip
    add("--retry NAME", "the retry policy: openai-sdk, aws-standard, or one of [retry.NAME] "
        "(default: none)")  # fmt: skip
    port = "the port to listen at; 0 chooses a free one (default: %(default)s)"
    add("--port PORT", port, type=natural, default=0)
    add("--token-env V", "environment variable with the secret part of the URL, for a URL that "
        "stays the same (default: a random one)")  # fmt: skip
    replace = "replace a key of the scenario, for example --set budget.attempts=500 (repeatable)"
    add("--set KEY=VALUE", replace, action="append", default=[])
    add("--out DIR", "run directory (default: results/<UTC time>-<name>)")
    add("--quiet", "show only errors, and the lines that set the URL")
    _add_output_options(add)


def _add_ask(command: _Command) -> None:
    add = command(
        "ask",
        "ask:ask",
        help="send one question, and show the answer and what it took",
        description="Sends one question and shows the answer as it arrives: the quickest proof "
        "that key, URL and model work. The answer goes to standard output; the reasoning, dimmed, "
        "and the outcome, times, tokens and cost to standard error. Ctrl-C closes the stream.",
        epilog="Exit codes: 0 answered; 1 no answer; 2 invalid input; 130 interrupted.",
    )
    add("question QUESTION", "the question (default: read it from a pipe)", nargs="?")
    add("--endpoint URL", "base URL of an OpenAI-compatible API; with --model")
    add("--model M", "the model to request, with --endpoint")
    add("--api-key-env V", "environment variable of its API key (default: no key is sent)")
    asked = "the scenario whose endpoint and timeouts are used (default: %(default)s)"
    add("--scenario SCENARIO", asked, default="deepseek")
    add("--simulated", "ask the simulated provider, without a key or a network")
    add("--json", "print texts, outcome, times, tokens and cost as JSON")


def _add_check(command: _Command) -> None:
    add = command(
        "check",
        "check:check_scenarios",
        help="check scenario files without running them",
        description="Checks scenario files, also in a pre-commit hook (docs/ci.md), and prints one "
        "line for each. No program is imported and nothing is sent.",
        epilog="Exit codes: 0 all are valid; 2 at least one is invalid.",
    )
    scenario = "path of a scenario file (TOML), or a name that `harness scenarios` lists"
    add("scenarios SCENARIO", scenario, nargs="+")


def _add_doctor(command: _Command) -> None:
    add = command(
        "doctor",
        "doctor:doctor",
        help="check a scenario and its surroundings before production",
        description="Checks key, endpoint, machine, timeouts, retries, permits and budget of a "
        "scenario, and says how to correct what is wrong. Nothing is sent without --probe, or a "
        "yes to the question.",
        epilog="Exit codes: 0 no failure; 1 a check failed; 2 invalid input.",
    )
    scenario = "path of a scenario file, or a name that `harness scenarios` lists"
    add("scenario SCENARIO", f"{scenario} (default: %(default)s)", nargs="?", default="deepseek")
    replace = "replace a key of the scenario, for example --set timeouts.call=2m (repeatable)"
    add("--set KEY=VALUE", replace, action="append", default=[])
    add("--endpoint URL", "check this OpenAI-compatible API instead; with --model")
    add("--model M", "the model to request, with --endpoint")
    add("--api-key-env V", "environment variable of its API key (default: no key is sent)")
    add("--run RUN", "compare with this run of the scenario: times, 429s, lengths of answers")
    add("--probe", "ask the server for its models, and send two small calls")
    add("--verbose", "show the checks that do not apply, too")
    add("--json", "print JSON")


def _add_init(command: _Command) -> None:
    add = command(
        "init",
        "init:write_scenario",
        help="write a scenario with comments, to begin with",
        description="Writes a scenario that runs as it is: against your own endpoint, or with the "
        "simulated provider in virtual time.",
    )
    add("--endpoint URL", "base URL of an OpenAI-compatible API (default: simulated)")
    add("--model M", "the model to request, with --endpoint")
    add("--api-key-env V", "environment variable of the API key (default: no key is sent)")
    add("-o FILE", "the new file (default: %(default)s)", default="mine.toml", dest="file")


def _add_scenarios(command: _Command) -> None:
    add = command(
        "scenarios",
        "scenarios:list_scenarios",
        help="list the scenarios that come with the harness, or print one",
        description="Lists the scenarios that `harness run` accepts by name, or prints the file of "
        "one of them.",
    )
    add("name NAME", "the scenario to print (default: list all)", nargs="?")


def _add_schema(command: _Command) -> None:
    command(
        "schema",
        "schema:print_schema",
        help="print the JSON Schema of a scenario file",
        description="Prints the JSON Schema of a scenario file, with which an editor completes and "
        "checks it. It includes the kinds of installed packages.",
    )


def _add_report(command: _Command) -> None:
    add = command(
        "report",
        "report:report_run",
        help="make the summary, the plots and the report of a run again",
        description="Makes the summary, the plots and report.html again from the records of a run, "
        "and shows its results.",
    )
    add("run RUN", "the run directory")
    add("--verbose", "print all tables, the code to paste and all advice after the answer")
    add("--only NAME", "draw only this plot, as SVG and PNG, for example heat-map")
    add("--text", "with --only: print the plot as text, and write no file")


def _add_compare(command: _Command) -> None:
    add = command(
        "compare",
        "compare:compare_command",
        help="compare two runs, and fail on a regression",
        description="Compares the settings that two runs of the same workload have in common, and "
        "shows each change with its interval.",
        epilog="Exit codes: 0 no rule was broken; 1 a significant change broke a --fail-on rule, "
        "or a rule has less power than --require-power; 2 the runs cannot be compared.",
    )
    add("base BASE", "directory of the run to compare with")
    add("new NEW", "directory of the run to judge")
    add(
        "--fail-on RULE",
        "exit with 1 if this metric changed by more and the change is significant, for "
        "example 'workflow_p95>+10%%' or 'success_rate<-1%%' (repeatable)",
        action="append",
        default=[],
    )
    add(
        "--require-power P",
        "exit with 1 if a change of exactly the limit of a --fail-on rule would have been found "
        "with a probability below P, for example 0.8",
        type=probability,
    )
    add("--json", "print all metrics as JSON")
    add(
        "--markdown FILE",
        "also append the comparison to this file as Markdown, for example to $GITHUB_STEP_SUMMARY",
    )


def _add_trace(command: _Command) -> None:
    add = command(
        "trace",
        "trace:trace",
        help="show why workflows were slow, or send a run's traces to a collector",
        usage="harness trace RUN [KEY | [--failed] [--slowest N]] [--spans | --json]\n"
        "       harness trace RUN --perfetto FILE\n"
        "       harness trace export RUN [--endpoint URL] [--again]",
        description="Draws workflows call by call, with the critical path. Without a selection: "
        "the slowest workflow, and a summary of each setting. `harness trace export` makes the "
        "traces of a stored run again, with the same ids, and sends the spans that the collector "
        "has not acknowledged.",
    )
    add("run RUN", "the run directory")
    add(
        "key KEY",
        "one workflow: setting/repeat/workflow, numbered from 1, or a trace id",
        nargs="?",
    )
    add("--slowest N", "the N slowest workflows", type=positive)
    add("--failed", "the failed, degraded and rejected workflows, at most 8 without --slowest")
    add("--spans", "print the spans as trees")
    add("--json", "print the critical paths as JSON")
    add(
        "--perfetto FILE",
        "write all workflows, and a lane for each permit, into a file for ui.perfetto.dev",
    )
    add(
        "--endpoint URL",
        "where to send spans and metrics, for example http://127.0.0.1:4318 or grpc://h:4317 "
        "(default: the standard OTEL_* variables)",
    )
    add("--again", "send all spans, also acknowledged ones, for a collector that lost them")


def _add_reasoning(command: _Command) -> None:
    add = command(
        "reasoning",
        "reasoning:reasoning",
        help="show the reasoning of a run, or where that of two runs parts",
        usage="harness reasoning RUN [KEY] [--json]\n"
        "       harness reasoning diff RUN [RUN] [--cells SETTING SETTING] [--json]",
        description="Shows how much of the output and of the time was reasoning, by phase, or the "
        "reasoning and answers of one workflow (with `transcripts = true`). `harness reasoning "
        "diff` compares the texts of two runs, settings or repeats, question by question.",
    )
    add("run RUN", "the run directory")
    add("key KEY", "one workflow: cell/repeat/workflow, numbered from 1, or a trace id", nargs="?")
    add("second RUN", "the second run directory of a comparison", nargs="?")
    add(
        "--cells SETTING",
        "the setting, or SETTING/REPEAT, of each side (default: all of both runs)",
        nargs=2,
    )
    add("--json", "print JSON")


def _add_export(command: _Command) -> None:
    add = command(
        "export",
        "export:export_tables",
        help="write the records of a run as tables: CSV or Parquet",
        description="Writes one file for each kind of record, with a row for each record: "
        "attempts.csv (each HTTP request), calls.csv (each question to the model, with all its "
        "attempts), workflows.csv, phases.csv (each part of a workflow), trials.csv (each setting "
        "in each repeat), cells.csv (each setting with all its metrics), and server.csv if the "
        "server's metrics were read. Files of an earlier export are replaced.",
        epilog="Columns are the fields that docs/records.md describes: a field in another one has "
        "both names, as `tokens_output`. Times are in nanoseconds since the run began, those of "
        "cells.csv in seconds. docs/run-directory.md describes the other columns.",
    )
    add("run RUN", "the run directory")
    add("--format {csv,parquet}", "file format (default: %(default)s)", default="csv")
    add("--out DIR", "output directory (default: RUN/export)")
    add(
        "--baseline DIR",
        "write no table, but a run with only what `harness compare` reads; a baseline that is "
        "there is replaced",
    )


def _add_fit(command: _Command) -> None:
    add = command(
        "fit",
        "fit:fit_profile",
        help="fit a profile of the simulated provider from runs",
        description="Fits a profile of the simulated provider from the records of runs at one "
        "provider, real or simulated: pace, time to first token, lengths, limits and faults. Shows "
        "the evidence of each part, and what the records cannot tell.",
        epilog='The profile is used like any other: `harness serve FILE`, or `profile = "FILE"` '
        "in the [endpoint] of a scenario. docs/twin.md says how each part is fitted.",
    )
    add("runs RUN", "run directories", nargs="+")
    add("-o FILE", "the profile, a .toml file; its page of curves has the same name with "
        ".html; both are replaced if they exist (default: %(default)s)",
        default="twin.toml", dest="file")  # fmt: skip
    add("--json", "print the parts as JSON instead of the table")


def _add_import(command: _Command) -> None:
    add = command(
        "import",
        "import_recorded:import_recorded",
        help="make a scenario that replays recorded traffic",
        description="Write a scenario that replays recorded calls, and its data file beside it. "
        "FILE: OTLP JSON with spans of model calls, an export of Langfuse, or the Azure LLM "
        "inference trace. Who waited for whom is inferred; docs/import.md states the rules.",
        epilog="Example: harness import traces.otlp.jsonl -o mine.toml",
    )
    add("file FILE", "file with recorded calls")
    add("-o FILE", "the scenario to write, a .toml file; its data file ends in "
        ".replay.jsonl; both are replaced if they exist", required=True, dest="output")  # fmt: skip
    add("--in-flight N", "workflows at once in a closed loop, instead of the recorded arrivals; "
        "1 for one after another", type=positive)  # fmt: skip


def _add_whatif(command: _Command) -> None:
    add = command(
        "whatif",
        "whatif:predict_settings",
        help="predict settings that were not measured",
        description="Fits a twin of the provider to runs, and plays the scenario of the first run "
        "with other settings in virtual time, with the lengths of its answers. Shows what each "
        "setting would give, with an interval. Sends nothing.",
        epilog="Example: harness whatif results/quickstart --set 'sweep.permits=[4, 16, 64]' "
        "--set 'sweep.retry=[\"openai-sdk\"]'. docs/twin.md says how far to trust it.",
    )
    add("runs RUN", "run directories: the twin is fitted to all, the scenario is the first's",
        nargs="+")  # fmt: skip
    replace = "replace a key of the scenario, for example --set 'sweep.permits=[4, 16]'"
    add("--set KEY=VALUE", replace, action="append", default=[])
    add("--check RUN2", "predict the settings and the work of RUN2, and compare with what it "
        "measured")  # fmt: skip
    add("--seed SEED", "seed of everything that is drawn (default: %(default)s)", type=natural,
        default=1)  # fmt: skip
    add("-o FILE", "also write the prediction as a page, an .html file; replaced if it exists",
        dest="file")  # fmt: skip
    add("--json", "print the prediction as JSON instead of the table")


def _add_serve(command: _Command) -> None:
    add = command(
        "serve",
        "serve:serve_profile",
        help="serve the simulated provider",
        description="Serves an OpenAI-compatible API with simulated answers, times, limits and "
        "faults on this machine, until interrupted.",
    )
    profile = "a shipped profile, or the path of a TOML file (default: %(default)s)"
    add("profile", profile, nargs="?", default="deepseek-reasoner")
    replace = "replace a key of the profile, for example --set concurrency_cap=4"
    add("--set KEY=VALUE", replace, action="append", default=[])
    bound = (
        "address to listen at; one that other machines reach needs no key (default: %(default)s)"
    )
    add("--host HOST", bound, default="127.0.0.1")
    add("--port PORT", "0 chooses a free port (default: %(default)s)", type=natural, default=8000)
    add("--seed SEED", "seed of lengths and times (default: %(default)s)", type=natural, default=0)
    scale = "real seconds in one simulated second (default: %(default)s)"
    add("--time-scale TIME_SCALE", scale, type=time_scale, default=1.0)
    add("--log FILE", "write the log of the provider (JSON lines)")
    add("--list", "list the shipped profiles and exit")
    add("--json", "print the address as JSON")
    add("--until-stdin-closes", "stop when standard input closes")


def _add_completion(command: _Command) -> None:
    add = command(
        "completion",
        "completion:print_script",
        help="print a script that completes commands in a shell",
        description="Prints a script that completes commands, options, scenarios and run "
        'directories. For bash, add this line to ~/.bashrc: eval "$(harness completion bash)"',
    )
    add("shell SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish"))
    add = command("complete", "completion:print_candidates")  # for the scripts: not in the help
    add("words WORD", "the words after `harness`", nargs=argparse.REMAINDER)
