"""What surrounds the code of a user that a run executes: checks before it, limits around it."""

from __future__ import annotations

import inspect
import os
import random
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import (
    ExitStack,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from io import TextIOBase
from pathlib import Path
from typing import TextIO

import msgspec

from harness.bench.cells import scenarios_by_cell
from harness.bench.scenario import Scenario
from harness.config.request_settings import ClientKind
from harness.config.validation_messages import one_line
from harness.engine.own_time import OwnTimeWatch
from harness.records.errors import InputError
from harness.records.keys import TrialKey
from harness.records.redaction import NO_SECRETS, Redactor
from harness.records.schema import Attempt, Call, Record, Transcript, Workflow
from harness.workflows.code_section import CodeSection
from harness.workflows.command.environment import has_field
from harness.workflows.command.section import CommandSection
from harness.workflows.program.environment import KEY_VARIABLES, PLACEHOLDER
from harness.workflows.program.hosted import TOPIC, wanted_by
from harness.workflows.program.loading import is_marked, load_program
from harness.workflows.program.section import ProgramSection

OUTPUT_FILE = "program-output.txt"
"""What programs print, in the run directory."""

_MOST_OUTPUT = 1024**2
_CUT = f"\n[output above {_MOST_OUTPUT // 1024**2} MiB is not kept]\n"

_HOSTED_MODES = ("async", "serial")
"""The modes of a program without the decorator: those with an event loop."""


def check_code(scenario: Scenario, output: Path | None = None) -> None:
    """Import the programs of all cells. Raises InputError if one of them cannot be run.

    What they print is written to `output`, or dropped. A command only has to exist.
    """
    for mine in scenarios_by_cell(scenario).values():
        if isinstance(mine.workflow, ProgramSection):
            with output_to(output):
                _check(mine.workflow, scenario.sweep.mode, mine.endpoint.client)
        elif isinstance(mine.workflow, CommandSection):
            _check_command(mine.workflow)


@contextmanager
def refusing_requests(scenario: Scenario) -> Iterator[None]:
    """Refuse the requests of programs that pass no budget, for a whole run.

    A task or a thread that a program leaves running can make one after its workflow. Nothing
    without a program, or if a scenario leaves requests to its program. In virtual time the openai
    package, which is slow to import, is only loaded if a program loads it.
    """
    programs = [
        mine.workflow
        for mine in scenarios_by_cell(scenario).values()
        if isinstance(mine.workflow, ProgramSection)
    ]
    with ExitStack() as stack:
        if programs and all(section.instrument for section in programs):
            if scenario.is_virtual:
                with output_to(None), suppress(InputError):  # raised again where it is checked
                    for section in programs:
                        load_program(section.program)
            if not scenario.is_virtual or "openai" in sys.modules:
                from harness.client.instrumentation import instrumented

                stack.enter_context(instrumented())
        yield


def _check(section: ProgramSection, modes: tuple[str, ...], client: ClientKind) -> None:
    function = load_program(section.program)
    if not is_marked(function):
        if client == "wire":
            raise _error(
                section,
                "a function without the decorator harness.workflow sends its requests with the "
                "openai package; use endpoint.client = 'openai', or make its calls with ask "
                "(docs/your-program.md)",
            )
        for mode in modes:
            if mode not in _HOSTED_MODES:
                raise _error(
                    section,
                    f"a function without the decorator harness.workflow has no mode {mode!r}; use "
                    f"{' and '.join(_HOSTED_MODES)}",
                )
    wanted = ["ask", TOPIC] if is_marked(function) else wanted_by(function, section.arguments)
    try:
        inspect.signature(function).bind(*wanted, **section.arguments)
    except TypeError as error:
        given = ", ".join([*wanted, "workflow.arguments"])
        raise _error(
            section,
            f"cannot be called with {given} ({error}); correct its parameters, or set "
            "workflow.arguments",
        ) from None


def _check_command(section: CommandSection) -> None:
    name, folder = section.command[0], Path(section.folder)
    if not folder.is_dir():
        raise InputError(
            one_line(f"workflow.folder = {section.folder!r}: no such folder; correct the path")
        )
    if has_field(name) or shutil.which(str(folder / name) if os.sep in name else name):
        return
    where = f"below {folder}" if os.sep in name else "in PATH"
    raise InputError(
        one_line(
            f"workflow.command = {list(section.command)!r}: no program {name!r} {where} that can "
            "be executed; correct the name, or install the program"
        )
    )


def _error(section: ProgramSection, what: str) -> InputError:
    return InputError(one_line(f"workflow.program = {section.program!r}: {what}"))


class _CappedOutput(TextIOBase):
    """A text stream that appends to a file, up to about a megabyte, shared by processes.

    After its end it can still be written to, because `logging` keeps the stream that it finds when
    a program is imported: what is written then goes to the stream that has followed it, if any.
    """

    def __init__(self, path: Path | None, redactor: Redactor) -> None:
        self._path = path
        self._redactor = redactor
        self._is_over = False
        self._file: TextIO | None = None
        self._left = _MOST_OUTPUT

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._is_over:
            follower = sys.stderr
            return follower.write(text) if isinstance(follower, _CappedOutput) else len(text)
        if self._path is None or self._left <= 0 or not text:
            return len(text)
        text = self._redactor.text(text)
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8", errors="replace")
            self._left -= self._file.tell()
            if self._left < 0:  # an earlier trial has reached the limit, and said so
                return len(text)
        self._file.write(text if len(text) <= self._left else text[: max(self._left, 0)] + _CUT)
        self._left -= len(text)
        return len(text)

    def end(self) -> None:
        """Close the file."""
        self._is_over = True
        if self._file is not None:
            self._file.close()


@contextmanager
def output_to(path: Path | None, redactor: Redactor = NO_SECRETS) -> Iterator[None]:
    """Write what code prints to a file, so that it does not disturb what the run shows."""
    stream = _CappedOutput(path, redactor)
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            yield
    finally:
        stream.end()


def program_redactor(scenario: Scenario, secrets: Iterable[str]) -> Redactor:
    """Return what removes secrets from what code of a user says; nothing is removed without any.

    A program can read the key of the endpoint, as it is in an environment variable, and those that
    the openai package reads.
    """
    if not isinstance(scenario.workflow, CodeSection):
        return NO_SECRETS
    keys = (os.environ.get(name, "") for name in KEY_VARIABLES)
    return Redactor([*secrets, *(key for key in keys if key != PLACEHOLDER)])


def without_secrets(record: Record, redactor: Redactor) -> Record:
    """Return a record without secrets in the texts that come from a program."""
    if redactor is NO_SECRETS:
        return record
    replace, text = msgspec.structs.replace, redactor.text
    match record:
        case Attempt() | Call():
            return replace(record, phase=text(record.phase))
        case Workflow():
            phases = tuple(replace(one, name=text(one.name)) for one in record.phases)
            error, stderr = redactor.optional(record.error), redactor.optional(record.stderr)
            return replace(record, phases=phases, error=error, stderr=stderr)
        case Transcript():
            said = tuple(replace(one, content=text(one.content)) for one in record.messages)
            return replace(record, phase=text(record.phase), messages=said)


@contextmanager
def limited_code(
    scenario: Scenario, output: Path | None, redactor: Redactor = NO_SECRETS
) -> Iterator[None]:
    """Limit the output of the code of a trial, and the own time of a program in this process."""
    section = scenario.workflow
    with ExitStack() as stack:
        if isinstance(section, ProgramSection):
            stack.enter_context(OwnTimeWatch(section.own_time_limit))
        if isinstance(section, CodeSection):
            stack.enter_context(output_to(output, redactor))
        yield


@contextmanager
def repeatable_random(scenario: Scenario, trial: TrialKey) -> Iterator[None]:
    """Seed the random numbers of a program, which its client uses, too, for pauses.

    So a trial in virtual time has the same records each time. Has no effect without a program.
    """
    if scenario.workflow.code is None:
        yield
        return
    before = random.getstate()
    random.seed(repr((scenario.seed, *trial)))
    try:
        yield
    finally:
        random.setstate(before)


def code_versions(scenario: Scenario) -> dict[str, str]:
    """Return the programs of the cells with hashes of their files, for `Run.versions`."""
    codes = (mine.workflow.code for mine in scenarios_by_cell(scenario).values())
    different = dict.fromkeys(code for code in codes if code is not None)
    numbered = (f"program {number}" for number in range(1, len(different) + 1))
    names = ("program",) if len(different) == 1 else numbered
    return dict(zip(names, different, strict=True))
