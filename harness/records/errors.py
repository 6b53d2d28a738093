"""The exceptions that end a command, and the exit code of each.

HarnessError            4  the harness could not do its work
├── InputError          2  what the user wrote cannot be used: file, key, value, way out
├── PreflightError      2  the run could not have begun: endpoint, key, directory
├── FirstAnswerError    2  the endpoint's first answer said that every call would fail
└── StorageError        4  a record could not be written or read

A failed attempt is not an exception here: it is a record with an outcome (see `failures`).
"""

from __future__ import annotations


class HarnessError(Exception):
    """A command cannot go on; its text is one line that a person can act on."""

    exit_code = 4


class InputError(HarnessError):
    """What the user wrote cannot be used.

    The text reads `where: what is wrong; the way out`.
    """

    exit_code = 2


class PreflightError(HarnessError):
    """The run could not have begun: nothing has been recorded yet."""

    exit_code = 2


class FirstAnswerError(HarnessError):
    """The endpoint's first answer said that every call would fail: only that one is recorded."""

    exit_code = 2


class StorageError(HarnessError):
    """A record could not be written or read back."""
