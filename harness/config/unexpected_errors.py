"""What an exception that nobody expected means to a user."""

from __future__ import annotations

import traceback

from harness.records.errors import HarnessError

_GROUPS = ("harness.endpoints", "harness.policies", "harness.workflows")


def what_failed(error: Exception) -> str:
    """Return in one line what an unexpected error means.

    It names the package of another author if the error was raised in its code or below.
    """
    raised = " ".join(f"{type(error).__name__}: {error}".split())
    packages = _packages_of_others()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in packages:
            return f"error in the package {package!r} ({raised}); repair or uninstall that package"
    return f"internal error ({raised})"


def unexpected(error: Exception) -> HarnessError:
    """Return what a process sends to the one that started it; its traceback is a note of it."""
    failed = HarnessError(what_failed(error))
    failed.add_note("".join(traceback.format_exception(error)))
    return failed


def _packages_of_others() -> set[str]:
    """Return the names of the packages that add kinds."""
    from importlib import metadata

    points = [point for group in _GROUPS for point in metadata.entry_points(group=group)]
    return {point.module.partition(".")[0] for point in points}
