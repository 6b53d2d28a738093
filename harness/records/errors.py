"""The exceptions that end a command, and the exit code of each.

HarnessError            4  an internal error
├── InputError          2  invalid input: the message names file, key, value and way out
├── PreflightError      2  a check before the run failed: endpoint, key or directory
├── FirstAnswerError    2  the first answer of the endpoint shows that every call would fail
└── StorageError        4  a record could not be written or read

A failed attempt is not an exception but a record with an outcome (see `failures`).
"""

from __future__ import annotations


class HarnessError(Exception):
    """A command cannot continue. The text is one line that says what to do."""

    exit_code = 4


class InputError(HarnessError):
    """Invalid input of the user.

    The text has the form `where: what is wrong; the way out`.
    """

    exit_code = 2


class PreflightError(HarnessError):
    """A check before the run failed. Nothing has been recorded."""

    exit_code = 2


class FirstAnswerError(HarnessError):
    """The first answer shows that every call would fail. Only this attempt is recorded."""

    exit_code = 2


class StorageError(HarnessError):
    """A record could not be written or read back."""
