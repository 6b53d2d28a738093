"""The data file of a replay: JSON lines, a header and one line for each workflow.

docs/import.md describes the format. It has times and numbers of tokens, and no text of a prompt,
an answer or a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.config.tables import SettingError

FORMAT = "harness-replay"
VERSION = 1
MOST_REPLAY_BYTES = 512 * 1024**2
"""Maximum size of a data file."""


class ReplayedCall(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One call. `after`: the numbers of the calls that it waits for, from 0; each is smaller.

    `gap`: seconds of program time between the last of them, or the start of the workflow, and the
    call. `output` includes `reasoning`, `input` includes `cached`.
    """

    input: int
    output: int
    after: tuple[int, ...] = ()
    gap: float = 0.0
    cached: int | None = None
    reasoning: int | None = None


class ReplayedWorkflow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One workflow. `at`: seconds from the first arrival to its own."""

    at: float
    calls: tuple[ReplayedCall, ...]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    workflows: int


class ReplayData(NamedTuple):
    """The workflows of a data file, by arrival; `digest`: of the file, in hexadecimal."""

    workflows: tuple[ReplayedWorkflow, ...]
    digest: str

    @property
    def per_second(self) -> float | None:
        """The mean rate of the arrivals; None if there are no two at different times."""
        span = self.workflows[-1].at - self.workflows[0].at
        return (len(self.workflows) - 1) / span if span > 0 else None


def encoded_data(workflows: Iterable[ReplayedWorkflow]) -> bytes:
    """Return the content of a data file."""
    every = list(workflows)
    header = _Header(FORMAT, VERSION, len(every))
    return msgspec.json.Encoder().encode_lines([header, *every])


@lru_cache(maxsize=8)
def _read(path: Path, size: int, changed: int) -> ReplayData:
    data = path.read_bytes()
    lines = data.splitlines()
    header = msgspec.json.decode(lines[0] if lines else b"", type=_Header)
    if header.format != FORMAT:
        raise ValueError("it is no data file of a replay")
    if header.version != VERSION:
        raise ValueError(f"it has version {header.version}, and this program reads {VERSION}")
    decoder = msgspec.json.Decoder(ReplayedWorkflow)
    workflows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            workflow = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from None
        if problem := next(_problems(workflow), None):
            raise ValueError(f"line {number}: {problem}")
        workflows.append(workflow)
    if not workflows or len(workflows) != header.workflows:
        raise ValueError(f"it has {len(workflows)} of {header.workflows} workflows")
    workflows.sort(key=lambda workflow: workflow.at)
    return ReplayData(tuple(workflows), hashlib.sha256(data).hexdigest())


def _problems(workflow: ReplayedWorkflow) -> Iterator[str]:
    if not 0 <= workflow.at < 1e9:
        yield f"at = {workflow.at} must be 0 or more seconds"
    if not workflow.calls:
        yield "a workflow needs at least one call"
    for number, call in enumerate(workflow.calls):
        if not all(0 <= one < number for one in call.after):
            yield f"call {number} must wait for calls before it"
        if call.input < 1 or call.output < 1 or not 0 <= call.gap < 1e9:
            yield f"call {number} needs input and output of at least 1, and a gap of at least 0"
        if not 0 <= (call.reasoning or 0) <= call.output:
            yield f"call {number} has more reasoning than output"
        if not 0 <= (call.cached or 0) <= call.input:
            yield f"call {number} has more cached than input tokens"


def read_data(name: str) -> ReplayData:
    """Return the content of a data file. Raises SettingError."""
    path = Path(name)
    try:
        status = path.stat()
        if status.st_size > MOST_REPLAY_BYTES:
            raise ValueError(f"it is larger than {MOST_REPLAY_BYTES // 1024**2} MiB")
        return _read(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        problem = "no such file; `harness import FILE -o mine.toml` writes it beside the scenario"
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); name a data file of harness import"
    except (ValueError, msgspec.DecodeError) as error:
        problem = f"cannot be read: {error}; write it anew with `harness import`"
    raise SettingError(problem, "data", value=name)
