"""What a collector has acknowledged, kept in the run directory, so that nothing is sent twice.

`directory` is everywhere the one with the traces. `delivered.jsonl` in it has a line for each batch
that was taken; `account.json` says what had become of the run's spans when they were last sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.records.errors import StorageError
from harness.store.run_directory import write_whole

DELIVERED = "delivered.jsonl"
ACCOUNT = "account.json"


class DeliveryAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run's spans.

    `made`: written to files. `endpoint`: where they were sent, None for nowhere. `delivered`:
    acknowledged there; `refused`: turned down there; `undelivered`: neither, 0 where there was
    nowhere to send them; where there was, the three add up to `made`. `left_out`: attempts that
    have no span because their workflow never ended. `problem`: what went wrong last, one line.
    """

    made: int = 0
    delivered: int = 0
    refused: int = 0
    undelivered: int = 0
    left_out: int = 0
    endpoint: str | None = None
    problem: str | None = None


class Acknowledged(NamedTuple):
    """What one endpoint has acknowledged: the ids of spans, and how many of them it rejected."""

    span_ids: frozenset[str]
    rejected: int


class _Line(msgspec.Struct, frozen=True):
    endpoint: str
    rejected: int
    spans: tuple[str, ...]


def note(directory: Path, endpoint: str, span_ids: Iterable[str], rejected: int) -> None:
    """Write down that a batch was acknowledged. Raises StorageError."""
    path = directory / DELIVERED
    line = msgspec.json.encode(_Line(endpoint, rejected, tuple(span_ids))) + b"\n"
    try:
        with path.open("ab", buffering=0) as file:
            file.write(line)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def read_acknowledged(directory: Path, endpoint: str) -> Acknowledged:
    """Return what `endpoint` has acknowledged; a torn last line does not count.

    Raises StorageError.
    """
    mine = [line for line in _lines(directory) if line.endpoint == endpoint]
    ids = frozenset(one for line in mine for one in line.spans)
    return Acknowledged(ids, sum(line.rejected for line in mine))


def forget(directory: Path, endpoint: str) -> None:
    """Forget what `endpoint` has acknowledged. Raises StorageError."""
    path = directory / DELIVERED
    if not path.exists():
        return
    kept = [msgspec.json.encode(line) for line in _lines(directory) if line.endpoint != endpoint]
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(b"".join(line + b"\n" for line in kept))
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def _lines(directory: Path) -> list[_Line]:
    path = directory / DELIVERED
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [msgspec.json.decode(line, type=_Line) for line in lines if line.endswith(b"\n")]
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({error})") from None


def without_span(account: DeliveryAccount) -> str:
    """Say how many attempts have no span, and why."""
    have = "has" if account.left_out == 1 else "have"
    attempts = "1 attempt" if account.left_out == 1 else f"{account.left_out} attempts"
    return f"{attempts} of workflows that did not end {have} no span"


def save_account(directory: Path, account: DeliveryAccount) -> None:
    """Write the account down. Raises StorageError."""
    write_whole(directory / ACCOUNT, account)


def read_account(directory: Path) -> DeliveryAccount | None:
    """Return the account as it was last written, None without one or when it cannot be read."""
    try:
        return msgspec.json.decode((directory / ACCOUNT).read_bytes(), type=DeliveryAccount)
    except (OSError, msgspec.DecodeError):
        return None
