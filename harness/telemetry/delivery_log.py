"""The spans that a collector has acknowledged, stored so that no span is sent twice.

`directory` is always the run's directory of traces. `delivered.jsonl` in it has one line for each
acknowledged batch. `account.json` has the state of the run's spans after the last delivery.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.records.errors import StorageError
from harness.store.run_directory import append_to_file, replace_file, write_whole

DELIVERED = "delivered.jsonl"
ACCOUNT = "account.json"


class MetricsAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run's data points, as of its spans in DeliveryAccount.

    `unsupported`: the collector takes no metrics, which is no failure: Jaeger takes only spans.
    """

    made: int = 0
    delivered: int = 0
    refused: int = 0
    undelivered: int = 0
    endpoint: str | None = None
    problem: str | None = None
    unsupported: bool = False

    @property
    def is_incomplete(self) -> bool:
        """Whether a collector for metrics did not take all of them."""
        return not self.unsupported and self.undelivered + self.refused > 0


class DeliveryAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run's spans.

    `made`: written to files. `endpoint`: the collector, None for none. `delivered`: acknowledged;
    `refused`: rejected; `undelivered`: neither. With a collector, these three add up to `made`;
    without one, they are 0. `left_out`: attempts without a span, because their workflow did not
    end. `problem`: the last problem, in one line. `metrics`: None for runs of earlier versions.
    """

    made: int = 0
    delivered: int = 0
    refused: int = 0
    undelivered: int = 0
    left_out: int = 0
    endpoint: str | None = None
    problem: str | None = None
    metrics: MetricsAccount | None = None


class Acknowledged(NamedTuple):
    """The span ids that one endpoint has acknowledged, and how many of them it rejected."""

    span_ids: frozenset[str]
    rejected: int


class _Line(msgspec.Struct, frozen=True):
    endpoint: str
    rejected: int
    spans: tuple[str, ...]


def note(directory: Path, endpoint: str, span_ids: Iterable[str], rejected: int) -> None:
    """Append an acknowledged batch to the log. Raises StorageError."""
    append_to_file(directory / DELIVERED, [_encoded(_Line(endpoint, rejected, tuple(span_ids)))])


def read_acknowledged(directory: Path, endpoint: str) -> Acknowledged:
    """Return what `endpoint` has acknowledged, by all complete lines. Raises StorageError."""
    mine = [line for line in _lines(directory) if line.endpoint == endpoint]
    ids = frozenset(one for line in mine for one in line.spans)
    return Acknowledged(ids, sum(line.rejected for line in mine))


def forget(directory: Path, endpoint: str) -> None:
    """Remove the lines of `endpoint` from the log. Raises StorageError."""
    if lines := _lines(directory):
        kept = [_encoded(line) for line in lines if line.endpoint != endpoint]
        replace_file(directory / DELIVERED, kept)


def _encoded(line: _Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _lines(directory: Path) -> list[_Line]:
    path = directory / DELIVERED
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [msgspec.json.decode(line, type=_Line) for line in lines if line.endswith(b"\n")]
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({error})") from None


def without_span(account: DeliveryAccount) -> str:
    """Return a sentence with the number of attempts without a span, and the reason."""
    have = "has" if account.left_out == 1 else "have"
    attempts = "1 attempt" if account.left_out == 1 else f"{account.left_out} attempts"
    return f"{attempts} {have} no trace, because only workflows that ended have one"


def save_account(directory: Path, account: DeliveryAccount) -> None:
    """Write the account to its file. Raises StorageError."""
    write_whole(directory / ACCOUNT, account)


def read_account(directory: Path) -> DeliveryAccount | None:
    """Return the stored account; None if there is none or it cannot be read."""
    try:
        return msgspec.json.decode((directory / ACCOUNT).read_bytes(), type=DeliveryAccount)
    except (OSError, msgspec.DecodeError):
        return None
