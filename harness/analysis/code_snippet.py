"""A recommended cell as lines to paste into code that uses the openai package."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.schema import CellInfo, PolicyCode, Run

_ERRORS = (
    "RETRY = (openai.APIConnectionError, openai.RateLimitError,",
    "         openai.InternalServerError)",
)


def lines_to_paste(run: Run, cell: CellInfo) -> tuple[str, ...]:
    """Return Python that gives a program the cell's mode, permits, retry policy and scope.

    Durations are scenario seconds. Comments name what the lines do not do: layers around the policy
    need more than a few lines, and the package's own retries hold the permit. Empty if the run does
    not record how the cell retries.
    """
    code = run.code.get(cell.id)
    if code is None:
        return ()
    return (*_head(cell, code), *_notes(cell, code), *_ask(cell, code))


def _head(cell: CellInfo, code: PolicyCode) -> Iterator[str]:
    in_async = cell.mode == "async"
    own = {*code.modules, *(() if in_async else ("time",))} if code.pause else set()
    permits = {"async": "asyncio", "threads": "threading"}.get(cell.mode)
    yield from (f"import {name}" for name in sorted({*own, *([permits] if permits else [])}))
    yield "import openai"
    yield ""
    yield f"client = openai.{'Async' if in_async else ''}OpenAI(max_retries={code.max_retries})"
    if permits:
        yield f"permits = {permits}.Semaphore({cell.permits})"
    if code.pause:
        yield from _ERRORS


def _notes(cell: CellInfo, code: PolicyCode) -> Iterator[str]:
    yield from (f"# measured, not included: {note}" for note in code.notes)
    if code.max_retries and cell.mode != "sync" and cell.permit_scope == "attempt":
        yield "# measured: permits released during the backoff; here they are held"


def _ask(cell: CellInfo, code: PolicyCode) -> Iterator[str]:
    in_async, permits = cell.mode == "async", cell.mode != "sync"
    prefix, wait = ("async ", "await ") if in_async else ("", "")
    call = f"return {wait}client.chat.completions.create(**request)"
    held = f"{prefix}with permits:"
    yield ""
    yield f"{prefix}def ask(**request):"
    if not code.pause:
        yield from ([f"    {held}", f"        {call}"] if permits else [f"    {call}"])
        return
    outer = permits and cell.permit_scope == "call"
    indent = "    "
    yield from (f"{indent}{line}" for line in code.before)
    if outer:
        yield f"{indent}{held}  # held during the backoff"
        indent += "    "
    yield f"{indent}for attempt in range(1, {code.attempts + 1}):"
    indent += "    "
    yield from (f"{indent}{line}" for line in code.pause)
    inner = indent
    if permits and not outer:
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
    yield from (f"{inner}    {line}" for line in code.hint)
    yield f"{indent}{wait}{'asyncio' if in_async else 'time'}.sleep(pause)"
