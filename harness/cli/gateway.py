"""`harness gateway`: sends the requests of other programs, and records them."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bench.cells import expand
from harness.bench.own_endpoint import OwnEndpoint, drop_former_endpoint
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.cli.plan import profiles_of
from harness.config import shipped_scenarios
from harness.config.dotenv import with_file
from harness.config.validation_messages import one_line
from harness.records.errors import InputError, PreflightError
from harness.workflows.gateway import GatewaySection, OpenGateway

AS_REQUESTED = "any model"
"""Stands for the model of an endpoint whose requests keep theirs."""
_HOST = "127.0.0.1"
_WITHOUT_OPTIONS = {"permits": 64, "retry": "none"}
"""The settings without options and a scenario: they hardly change how a program behaves."""
_OF_WORKFLOWS = ("load", "objective", "prompts", "question", "records", "success", "sweep", "tune")
"""The parts of a scenario that are about its own workflows."""
_NOT_TAKEN = ("dask", "jobs", "processes", "twin")
"""Options that other runs take."""
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,200}\Z")


def serve_gateway(options: argparse.Namespace) -> int:
    """Serve until a signal ends it, show what was recorded, and return the exit code."""
    from harness.cli.execute import start_run

    for name in _NOT_TAKEN:
        setattr(options, name, None)
    scenario = gateway_scenario(options)
    profiles = profiles_of(scenario, options.scenario or "--endpoint")
    token = _token(options.token_env)
    output = sys.stderr if options.json else sys.stdout

    def ready(url: str) -> None:
        output.write("".join(f"{line}\n" for line in lines_for_shell(url)))
        output.flush()

    with _listener(options.port) as listener:
        opened = OpenGateway(listener, token, ready, lambda line: None)
        return start_run(scenario, profiles, None, options, gateway=opened)


def lines_for_shell(url: str) -> tuple[str, ...]:
    """Return the lines with which a shell makes programs use a gateway."""
    return (f"export OPENAI_BASE_URL={url}", "export OPENAI_API_KEY=placeholder")


def gateway_scenario(options: argparse.Namespace) -> Scenario:
    """Return the scenario of a gateway: the options, and the file that they name if any.

    Raises InputError.
    """
    own = None
    if options.endpoint is not None:
        own = OwnEndpoint(options.endpoint, options.model or AS_REQUESTED, options.api_key_env)
        settings = own.settings()
    elif options.scenario is None:
        raise InputError(
            "gateway: no endpoint; give --endpoint with the base URL of the API, or a scenario"
        )
    else:
        given = {"model": options.model, "api_key_env": options.api_key_env}
        settings = [f"endpoint.{key}={json.dumps(value)}" for key, value in given.items() if value]

    def change(values: dict[str, Any]) -> None:
        _change(values, own, options)

    overrides = [*settings, *options.set]
    if options.scenario is None:
        scenario = parse_scenario('name = "gateway"', "gateway", overrides, change=change)
    else:
        file = shipped_scenarios.find(options.scenario)
        scenario = load_scenario(file, overrides, change)
    if not isinstance(scenario.workflow, GatewaySection):
        raise InputError("--set workflow.kind: harness gateway has its own kind; leave it out")
    if scenario.workflow.keep_model and scenario.budget.usd is not None:
        raise InputError(
            f"budget.usd = {scenario.budget.usd:g}: the price is that of one model; name it with "
            "--model, which all requests then get, or use budget.tokens"
        )
    if len(expand(scenario)) > 1 or scenario.sweep.most_repeats > 1:
        raise InputError(
            "--set sweep: a gateway has one setting, and serves it once; give one value of each key"
        )
    return scenario


def _change(values: dict[str, Any], own: OwnEndpoint | None, options: argparse.Namespace) -> None:
    """Make the values of a scenario file those of a gateway."""
    sweep = {
        key: _setting(values, key, getattr(options, key), options.scenario)
        for key in ("permits", "retry")
    }
    if own is not None:
        drop_former_endpoint(values, own, options.set)
    for key in _OF_WORKFLOWS:
        values.pop(key, None)
    timeouts, endpoint = values.get("timeouts"), values.get("endpoint")
    if isinstance(timeouts, dict):
        timeouts.pop("workflow", None)
    if isinstance(endpoint, dict):
        endpoint.pop("time", None)  # requests of other programs come in real time
    values["workflow"] = {"kind": "gateway", "keep_model": options.model is None}
    values["sweep"] = {"mode": ["async"], **{key: [value] for key, value in sweep.items()}}


def _setting(values: Mapping[str, Any], key: str, given: str | None, scenario: str | None) -> Any:
    """Return the value of a swept key: that of the option, or the only one of the scenario."""
    if given is not None:
        return int(given) if given.isascii() and given.isdigit() else given
    swept = values.get("sweep")
    found = swept.get(key) if isinstance(swept, Mapping) else None
    options = found if isinstance(found, list) else [] if found is None else [found]
    if len(options) > 1:
        raise InputError(
            one_line(f"{scenario}: sweep.{key} has {len(options)} values; choose one with --{key}")
        )
    return options[0] if options else _WITHOUT_OPTIONS[key]


def _token(variable: str | None) -> str:
    """Return the token of a variable, or a random one. Raises InputError."""
    if variable is None:
        return secrets.token_urlsafe(24)
    token = with_file(os.environ, Path(".env"), variable).get(variable, "").strip()
    if not _TOKEN.match(token):
        raise InputError(
            f"--token-env {variable}: holds no token; put 8 to 200 letters, digits and '._~-' into "
            "this environment variable or .env"
        )
    return token


def _listener(port: int) -> socket.socket:
    """Return a socket that is bound to a port, 0 for any. Raises PreflightError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        why = "a port is a number from 0 to 65535"
        if isinstance(error, OSError):
            used = error.errno == errno.EADDRINUSE
            why = "another program uses this port" if used else str(error.strerror)
        raise PreflightError(
            f"--port {port}: cannot listen at {_HOST} ({why}); give another port, or leave it out "
            "for a free one"
        ) from None
    return listener
