"""The command line: runs the function of a command, and returns the exit code.

The module of a command is imported when it runs, so that `harness --help` starts fast.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pkgutil
import re
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from harness.cli.end_signals import EndSignals
from harness.cli.parser import command_parser
from harness.records.errors import HarnessError

DEBUG_VARIABLE = "HARNESS_DEBUG"
"""Environment variable; when it is set, the traceback of an internal error is printed too."""

EXIT_INTERRUPTED = 130
HUNG_UP = 141
"""The exit code that a shell reports for a program that SIGPIPE ended."""
OUT_OF_MEMORY = (
    "harness: out of memory; all records that had ended are saved; give it more memory, or a run "
    "with fewer workflows or permits"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_WRITTEN = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _ErrorOutput:
    """Standard error that a command can write to although nobody can read it any more.

    After the first failed write (`2>&1 | head`, a full disk) the rest is discarded: a message that
    cannot be shown must not end a run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            _to_null(self._stream)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_closed_streams()
    with (
        contextlib.redirect_stderr(cast(TextIO, _ErrorOutput(sys.stderr))),
        EndSignals() as ended,
    ):
        return ended.exit_code(_run_command(arguments))


def run_and_exit() -> NoReturn:
    """Run one command and end this process with its exit code.

    It does not wait for threads that the program of a user has left running.
    """
    code = main()
    if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Read from and write to /dev/null where the shell closed a standard stream (`2>&-`).

    Otherwise the next file that is opened gets the number of the stream, and whatever a library or
    a child process prints is written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115 - until the process ends
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _run_command(arguments: Sequence[str] | None) -> int:
    try:
        options = command_parser().parse_args(arguments)
        code: int = pkgutil.resolve_name(options.command)(options)
        print(end="", flush=True)
    except HarnessError as error:
        print(f"harness: {_one_line(str(error))}", file=sys.stderr)
        if os.environ.get(DEBUG_VARIABLE):
            print(*getattr(error, "__notes__", ()), sep="\n", end="", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
        return HarnessError.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            return _output_failed(error)
        from harness.config.unexpected_errors import what_failed

        print(
            f"harness: {_one_line(what_failed(error))}; {DEBUG_VARIABLE}=1 prints the traceback",
            file=sys.stderr,
        )
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)
        return HarnessError.exit_code
    return code


def _one_line(text: str) -> str:
    r"""Return a text with `\n` and the like for characters that do not belong into a line.

    A name that the user gave can have any of them.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _output_failed(error: OSError) -> int:
    """Print one line that names what could not be written, and return the exit code.

    A closed output (`| head`) is not reported. Errors of files have their own messages elsewhere,
    so this is mostly about standard output.
    """
    hung_up = isinstance(error, BrokenPipeError)
    if not hung_up:
        where = error.filename or "the output"
        print(f"harness: {where}: cannot be written ({error.strerror})", file=sys.stderr)
    with contextlib.suppress(OSError):  # or the interpreter reports unwritten output at exit
        _to_null(sys.stdout)
    return HUNG_UP if hung_up else HarnessError.exit_code


def _to_null(stream: TextIO) -> None:
    """Discard what is still in the buffer of `stream`, and all that follows."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
