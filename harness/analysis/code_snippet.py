"""A recommended cell as lines to paste into a program that uses the openai package.

They do what was measured. Plain code with the package says that for few cells; for the others, the
lines create `harness.AsyncOpenAI` or `harness.OpenAI`.
"""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from harness.analysis.endpoint_code import EndpointCode, endpoint_code
from harness.analysis.settings import runs_command, runs_user_code
from harness.records.failures import CANCELLED, OK, of_status
from harness.records.schema import CellInfo, PolicyCode, Run
from harness.records.settings import in_event_loop, one_at_a_time
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT

_WIDTH = 76
"""With four blanks before it, a line fits a terminal."""

_ERRORS = (
    "RETRY = (openai.APIConnectionError, openai.RateLimitError,",
    "         openai.InternalServerError)",
)

_OF_STATUS = frozenset(of_status(status) for status in range(300, 600))
_SEEN_BY_PACKAGE = _OF_STATUS | {"connect_failed", "connection_lost"}
_AS_IN_PACKAGE = _SEEN_BY_PACKAGE | {OK, CANCELLED, "truncated", "content_filter"}
"""Outcomes that mean the same to plain code: an error of the package, or a response."""
_NOT_IN_RETRY = frozenset({"request_timeout", "conflict"})
"""Failures that policies retry and the plain loop does not."""


class FailuresMet(NamedTuple):
    """What the attempts of a cell met.

    `outcomes`: of the attempts. `retry_after`: a server asked for a wait. `deadline`: a policy gave
    up because of the deadline of a call. `streamed`: some responses came as a stream.
    """

    outcomes: frozenset[str]
    retry_after: bool
    deadline: bool
    streamed: bool = True


def failures_met(attempts: AttemptTable) -> FailuresMet:
    """Return what some attempts met."""
    names = attempts.words.names
    deadline = attempts.words.get("deadline", -1)
    return FailuresMet(
        outcomes=frozenset(names[at] for at in np.unique(attempts.column("outcome"))),
        retry_after=bool(
            np.any(attempts.column("retry_after") != ABSENT)
            or np.any(attempts.column("source") == attempts.words.get("rate_limit_reset", -1))
        ),
        deadline=bool(np.any(attempts.column("give_up") == deadline)),
        streamed=bool(np.any(attempts.column("chunks") > 1)),
    )


class _Server(NamedTuple):
    """What reaches the endpoint that was measured.

    `arguments`: of the client, none for a simulated provider, whose place another endpoint takes.
    `imports`: the modules that they need. `model`: as requested, empty if not known. `more`: what
    the requests need besides.
    """

    arguments: tuple[str, ...]
    imports: frozenset[str]
    model: str
    streams: bool
    more: EndpointCode

    @classmethod
    def of(cls, endpoint: Mapping[str, Any], mode: str) -> _Server:
        """Return the server of an `[endpoint]`. The key is named by its variable, never shown."""
        url, variable = endpoint.get("base_url"), endpoint.get("api_key_env")
        model, streams = endpoint.get("model") or "", endpoint["stream"]
        more = endpoint_code(endpoint, in_async=in_event_loop(mode))
        if not isinstance(url, str):
            return cls(more.client, more.imports, "", streams, more)
        key = '"none"' if variable is None else f"os.environ[{json.dumps(variable)}]"
        named = (("base_url", json.dumps(url), _PACKAGE_URL), ("api_key", key, _PACKAGE_KEY))
        arguments = tuple(f"{name}={value}" for name, value, usual in named if value != usual)
        imports = frozenset(["os"]) if "os.environ" in "".join(arguments) else frozenset[str]()
        return cls((*arguments, *more.client), imports | more.imports, model, streams, more)

    def measured(self) -> Iterator[str]:
        """Yield a comment on what the requests had; nothing if there is nothing to say."""
        had = [f"model={json.dumps(self.model)}"] if self.model else []
        had += ["stream=True"] if self.streams else []
        if had:
            yield f"    # measured with {', '.join(had)}"
        yield from (f"    {line}" for line in self.more.request)

    def client(self, other: Iterable[str] = ()) -> Iterator[str]:
        """Yield the arguments of the client, one in each line unless it has several."""
        for argument in (*self.arguments, *other):
            yield from textwrap.indent(f"{argument},", "    ").splitlines()


_PACKAGE_URL = '"https://api.openai.com/v1"'
_PACKAGE_KEY = 'os.environ["OPENAI_API_KEY"]'
"""What the package uses without arguments."""


def lines_to_paste(run: Run, cell: CellInfo, met: FailuresMet | None = None) -> tuple[str, ...]:
    """Return Python that gives a program the cell's mode, permits, retry policy and scope.

    `met`: what the cell's attempts met; None if that is not known. Durations are scenario seconds.
    Empty if the run does not record how the cell retries.
    """
    code = run.code.get(cell.id)
    if code is None or not code.policy:
        return ()
    scenario = run.cell_scenario(cell)
    server = _Server.of(scenario["endpoint"], cell.mode)
    if met is not None and runs_user_code(scenario):  # its requests say whether to stream
        server = server._replace(streams=met.streamed)
    before = gateway_lines(scenario, cell) if runs_command(scenario) else ()
    if met is not None and _is_plain_exact(cell, code, server.streams, met):
        return (*before, *_head(cell, code, server), *_ask(cell, code, server))
    return (*before, *_with_client(cell, code, scenario["timeouts"], server))


def gateway_lines(scenario: Mapping[str, Any], cell: CellInfo) -> Iterator[str]:
    """Yield the command that gives a program in any language the permits and policy of a cell.

    The timeouts and the policy are in the file of the scenario, whose path is not recorded. The
    Python code follows.
    """
    endpoint = scenario["endpoint"]
    yield "# in any language; SCENARIO is the file of this run"
    words = ["harness", "gateway", "SCENARIO"]
    if isinstance(url := endpoint.get("base_url"), str):
        words += ["--endpoint", url]
        if not scenario["workflow"].get("keep_model"):
            words += ["--model", endpoint["model"]]
        if variable := endpoint.get("api_key_env"):
            words += ["--api-key-env", variable]
    words += ["--permits", cell.limiter or str(cell.permits), "--retry", cell.retry]
    yield shlex.join(words)
    yield ""
    yield "# in Python"


def _is_plain_exact(cell: CellInfo, code: PolicyCode, streamed: bool, met: FailuresMet) -> bool:
    """Return whether plain code would have done what was measured.

    It releases the permit of a stream at the headers, and retries nothing after them. The package
    holds the permit during its own backoff. The plain loop reads Retry-After in whole seconds only.
    Threads do not get a `threading.Semaphore` in the order in which they wait, so that some wait
    several times as long.
    """
    if (
        cell.mode == "threads"
        or code.limit
        or not code.plain
        or met.deadline
        or not met.outcomes <= _AS_IN_PACKAGE
    ):
        return False
    if streamed and (not one_at_a_time(cell.mode) or code.pause):
        return False
    failed = met.outcomes & _SEEN_BY_PACKAGE
    if code.pause:
        return not met.retry_after and not failed & _NOT_IN_RETRY
    held = one_at_a_time(cell.mode) or cell.permit_scope == "call"
    return held or not code.max_retries or not failed


def _with_client(
    cell: CellInfo, code: PolicyCode, timeouts: dict[str, Any], server: _Server
) -> Iterator[str]:
    in_async = in_event_loop(cell.mode)
    prefix, wait = ("async ", "await ") if in_async else ("", "")
    yield from _imports({"harness", *code.imports} | server.imports)
    yield ""
    yield f"client = harness.{'Async' if in_async else ''}OpenAI("
    yield from server.client()
    yield from _call(f"permits={code.limit or cell.permits}", 4)
    yield f'    permit_scope="{cell.permit_scope}",'
    if len(code.policy) == 1:
        yield from _call(f"retry={code.policy[0]}", 4)
    else:
        yield "    retry=["
        for layer in code.policy:
            yield from _call(layer, 8)
        yield "    ],"
    named = ("connect", "first_token", "idle", "call")
    values = [(name, timeouts[name] or timeouts["call"]) for name in named]
    arguments = ", ".join(f"{name}={value:g}" for name, value in values)
    yield from _call(f"timeouts=harness.Timeouts({arguments})", 4)
    if server.streams:
        yield "    # Measured so: a stream is passed on when it is complete, and one that"
        yield "    # breaks is retried. It costs the wait for the last text. Without it,"
        yield "    # nothing is retried after the first text."
        yield "    whole_responses=True,"
    yield ")"
    yield from server.more.before
    yield ""
    yield f"{prefix}def ask(**request):"
    yield from server.measured()
    if any('scope="phase"' in layer for layer in code.policy):
        yield '    # extra_headers={"x-harness-policy-phase": ...} names the phase'
    yield f"    return {wait}client.chat.completions.create(**request)"


def _call(expression: str, indent: int) -> Iterator[str]:
    """Yield a call as an argument, in several lines if it is too long for one."""
    blanks = " " * indent
    if indent + len(expression) < _WIDTH:
        yield f"{blanks}{expression},"
        return
    name, _, arguments = expression.removesuffix(")").partition("(")
    yield f"{blanks}{name}("
    inner = blanks + "    "
    yield from textwrap.wrap(f"{arguments},", _WIDTH, initial_indent=inner, subsequent_indent=inner)
    yield f"{blanks}),"


def _imports(names: Iterable[str]) -> Iterator[str]:
    """Import modules of the standard library first, as tools that sort imports do."""
    ordered = sorted(names, key=lambda name: (name not in sys.stdlib_module_names, name))
    yield from (f"import {name}" for name in ordered)


def _head(cell: CellInfo, code: PolicyCode, server: _Server) -> Iterator[str]:
    in_async = in_event_loop(cell.mode)
    own = {*code.modules, *(() if in_async else ("time",))} if code.pause else set()
    own |= server.imports - {"openai"}
    yield from (f"import {name}" for name in sorted({*own, *(["asyncio"] if in_async else [])}))
    yield "import openai"
    yield ""
    arguments = [*server.arguments, f"max_retries={code.max_retries}"]
    begin = f"client = openai.{'Async' if in_async else ''}OpenAI("
    if len(arguments) == 1:
        yield f"{begin}{arguments[0]})"
    else:
        yield from (begin, *server.client([arguments[-1]]), ")")
    yield from server.more.before
    if in_async:
        yield f"permits = asyncio.Semaphore({cell.permits})"
    if code.pause:
        yield from _ERRORS


def _ask(cell: CellInfo, code: PolicyCode, server: _Server) -> Iterator[str]:
    in_async = in_event_loop(cell.mode)
    prefix, wait = ("async ", "await ") if in_async else ("", "")
    call = f"return {wait}client.chat.completions.create(**request)"
    held = f"{prefix}with permits:"
    yield ""
    yield f"{prefix}def ask(**request):"
    yield from server.measured()
    if not code.pause:
        yield from ([f"    {held}", f"        {call}"] if in_async else [f"    {call}"])
        return
    outer = in_async and cell.permit_scope == "call"
    indent = "    "
    yield from (f"{indent}{line}" for line in code.before)
    if outer:
        yield f"{indent}{held}  # held during the backoff"
        indent += "    "
    yield f"{indent}for attempt in range(1, {code.attempts + 1}):"
    indent += "    "
    yield from (f"{indent}{line}" for line in code.pause)
    inner = indent
    if in_async and not outer:
        yield f"{indent}{held}  # released during the backoff"
        inner += "    "
    yield f"{inner}try:"
    yield f"{inner}    {call}"
    yield f"{inner}except RETRY as error:"
    yield f"{inner}    if attempt == {code.attempts}:"
    yield f"{inner}        raise"
    yield f'{inner}    response = getattr(error, "response", error)'
    yield f'{inner}    headers = getattr(response, "headers", {{}})'
    yield f'{inner}    asked = headers.get("retry-after", "")'
    yield f"{inner}    pause = float(asked if asked.isdigit() else 0) or pause"
    yield f"{indent}{wait}{'asyncio' if in_async else 'time'}.sleep(pause)"
