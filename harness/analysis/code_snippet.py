"""A recommended cell as lines to paste into code that uses the openai package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.records.schema import CellInfo, Run

_ERRORS = (
    "RETRY = (openai.APIConnectionError, openai.RateLimitError,",
    "         openai.InternalServerError)",
)
_AROUND = {
    "retry-budget": "retries for {ratio:.0%} of the calls, {burst} at once",
    "grpc-throttling": "gRPC's throttling: {tokens} tokens, {ratio:g} back for a success",
    "finagle-budget": "Finagle's budget: {ratio:.0%} of the calls and {per_second:g} a second",
    "breaker": "circuit breaker",
    "hedge": "hedging",
    "aws-standard": "a quota of 500; a retry costs 14, after a 429 5",
}


def lines_to_paste(run: Run, cell: CellInfo) -> tuple[str, ...]:
    """Return Python that gives a program the cell's mode, permits, retry policy and scope.

    Durations are scenario seconds, which are real ones against a real model. What stands around
    the innermost policy is described in a comment: it is more than a few lines. So is what the
    package's own retries cannot do: give the permit back.
    """
    *around, innermost = _layers(run.scenario["retry"], cell.retry)
    waits = _pause(innermost)
    attempts = _attempts(innermost)
    own = bool(waits) and attempts > 1
    if innermost["kind"] == "aws-standard":
        around.append(innermost)
    notes = (*_notes(around), *_held(cell, innermost))
    return (*_head(cell, innermost, own=own), *notes, *_ask(cell, innermost, waits, attempts))


def _layers(retry: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    described = retry[name]
    if described["kind"] != "stack":
        return [described]
    return [layer for part in described["layers"] for layer in _layers(retry, part)]


def _head(cell: CellInfo, innermost: Mapping[str, Any], *, own: bool) -> Iterator[str]:
    in_async = cell.mode == "async"
    modules = {"async": "asyncio", "threads": "threading", "sync": ""}
    names = {modules[cell.mode], *(("random",) if own and innermost["kind"] != "fixed" else ())}
    names |= {"time"} if own and not in_async else set()
    yield from (f"import {name}" for name in sorted(names - {""}))
    yield "import openai"
    yield ""
    retries = innermost["max_retries"] if innermost["kind"] == "openai-sdk" else 0
    yield f"client = openai.{'Async' if in_async else ''}OpenAI(max_retries={retries})"
    if cell.mode != "sync":
        yield f"permits = {modules[cell.mode]}.Semaphore({cell.permits})"
    if own:
        yield from _ERRORS


def _notes(around: list[Mapping[str, Any]]) -> Iterator[str]:
    for layer in around:
        words = _AROUND.get(layer["kind"], layer["kind"])
        yield f"# around it, as measured: {words.format(**layer)}"


def _held(cell: CellInfo, innermost: Mapping[str, Any]) -> Iterator[str]:
    by_the_package = innermost["kind"] == "openai-sdk" and innermost["max_retries"] > 0
    if by_the_package and cell.mode != "sync" and cell.permit_scope == "attempt":
        yield "# measured: permits given back during its backoff; here they are held"


def _attempts(innermost: Mapping[str, Any]) -> int:
    return int(innermost.get("attempts", 1))


def _pause(innermost: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that set the seconds before the next attempt; none without own retries."""
    kind = innermost["kind"]
    if kind == "fixed":
        return (f"pause = {innermost['delay']:g}",)
    if kind == "aws-standard":
        return ("pause = random.random()",)
    if kind != "exponential":
        return ()
    base, cap = innermost["base"], innermost["cap"]
    if innermost["jitter"] == "decorrelated":
        return (f"pause = min({cap:g}, random.uniform({base:g}, 3 * (pause or {base:g})))",)
    low = "0" if innermost["jitter"] == "full" else "ceiling / 2"
    return (
        f"ceiling = min({cap:g}, {base:g} * 2 ** (attempt - 1))",
        f"pause = random.uniform({low}, ceiling)",
    )


def _hinted(innermost: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that let the error and what it asks for change the pause."""
    if innermost["kind"] != "aws-standard":
        return ("pause = float(asked if asked.isdigit() else 0) or pause",)
    return (
        "limited = isinstance(error, openai.RateLimitError)",
        "base = 1 if limited else 0.05",
        "pause *= min(20, base * 2 ** (attempt - 1))",
        "hint = float(asked) if asked.isdigit() else 0",
        "pause = max(pause, min(hint, pause + 5))",
    )


def _ask(
    cell: CellInfo, innermost: Mapping[str, Any], waits: tuple[str, ...], attempts: int
) -> Iterator[str]:
    in_async, permits = cell.mode == "async", cell.mode != "sync"
    prefix, wait = ("async ", "await ") if in_async else ("", "")
    call = f"return {wait}client.chat.completions.create(**request)"
    held = f"{prefix}with permits:"
    yield ""
    yield f"{prefix}def ask(**request):"
    if not waits or attempts < 2:
        yield from ([f"    {held}", f"        {call}"] if permits else [f"    {call}"])
        return
    sleep = f"{wait}{'asyncio' if in_async else 'time'}.sleep(pause)"
    outer = permits and cell.permit_scope == "call"
    indent = "    "
    if "(pause or" in waits[0]:
        yield f"{indent}pause = 0.0"
    if outer:
        yield f"{indent}{held}  # held through the backoff"
        indent += "    "
    yield f"{indent}for attempt in range(1, {attempts + 1}):"
    indent += "    "
    yield from (f"{indent}{line}" for line in waits)
    inner = indent
    if permits and not outer:
        yield f"{indent}{held}  # given back during the backoff"
        inner += "    "
    yield f"{inner}try:"
    yield f"{inner}    {call}"
    yield f"{inner}except RETRY as error:"
    yield f"{inner}    if attempt == {attempts}:"
    yield f"{inner}        raise"
    yield f'{inner}    told = getattr(error, "response", error)'
    yield f'{inner}    headers = getattr(told, "headers", {{}})'
    yield f'{inner}    asked = headers.get("retry-after", "")'
    yield from (f"{inner}    {line}" for line in _hinted(innermost))
    yield f"{indent}{sleep}"
