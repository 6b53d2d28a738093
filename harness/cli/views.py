"""Makes the views of a run so that a view that fails is reported and the run continues.

The records are written before any view, so a failed view loses nothing.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from harness.cli.main import DEBUG_VARIABLE
from harness.config.validation_messages import one_line
from harness.records.errors import HarnessError
from harness.store.run_directory import read_run

RUN_CONTINUES = "the run continues"

_P = ParamSpec("_P")


class Views:
    """Reports each view of the run in `directory` that fails, once.

    `way_out`, in every method: the text that says what the user can do or what happens next.
    """

    def __init__(self, directory: Path) -> None:
        self.report_again = f"the records are safe: `harness report {directory}` tries again"
        self.traces_again = f"the records are safe: `harness trace export {directory}` tries again"
        self.failed: set[str] = set()

    @contextmanager
    def making(self, view: str, way_out: str) -> Iterator[None]:
        """Report an exception that making `view` raises, and suppress it."""
        try:
            yield
        except Exception as error:  # a defect in a view must not end the run
            self._report(view, error, way_out)

    def safe(self, view: str, function: Callable[_P, None], way_out: str) -> Callable[_P, None]:
        """Return `function` without its exceptions, which are reported as those of `view`."""

        @functools.wraps(function)
        def safe_function(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:  # not in `making`, which takes 2 us more: it is called for each record
                function(*args, **kwargs)
            except Exception as error:
                self._report(view, error, way_out)

        return safe_function

    def _report(self, view: str, error: Exception, way_out: str) -> None:
        if view in self.failed:
            return
        self.failed.add(view)
        kind = "" if isinstance(error, HarnessError) else f"{type(error).__name__}: "
        warn(one_line(f"{view} could not be made ({kind}{error}); {way_out}"))
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)


def warn_of_missing_ids(directory: Path) -> None:
    """Print a line if the run did not keep the ids that the provider gave."""
    if read_run(directory).records_kept == "summary":
        warn(
            f"{directory} keeps only what the statistics need: request_id and response_id are "
            "left out; run its scenario with --set records=full to record them"
        )


def warn(line: str) -> None:
    """Print a line about the run on standard error."""
    print(f"harness: {line}", file=sys.stderr, flush=True)
