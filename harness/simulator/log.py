"""Writes the provider's log, with which the client's records are compared."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.records.errors import InputError, StorageError
from harness.records.provider_log import ProviderHead, Served


class Log:
    """The writer of provider.jsonl. A line is in the file when `write` returns.

    `may_end_early`: if the log cannot be written any more, the provider continues without it. Then
    the log lacks the later requests.
    """

    def __init__(self, path: Path | None, head: ProviderHead, may_end_early: bool = False) -> None:
        self._path = path
        self._may_end_early = may_end_early
        self._file = None
        if path is not None:
            try:
                self._file = path.open("wb", buffering=0)
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be written ({error.strerror}); name a file in a directory "
                    "that exists and can be written"
                ) from None
        self.write(head)

    def close(self) -> None:
        """Close the file; later calls of `write` do nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, value: ProviderHead | Served) -> None:
        """Append one line. Raises StorageError."""
        if self._file is None:
            return
        rest = memoryview(msgspec.json.encode(value) + b"\n")
        try:
            while rest:  # on a nearly full disk, only a part is written
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            if self._may_end_early:
                self.close()
                return
            raise StorageError(
                f"{self._path}: cannot be written ({error.strerror}); make room and run again"
            ) from None
