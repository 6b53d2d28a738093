"""The line about the progress of a command."""

import io
import re
import threading
from typing import Any

import pytest

from harness.cli import progress_line
from harness.cli.progress_line import ProgressLine
from harness.report.console import Output


class Told(io.StringIO):
    """A terminal that says when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        if "fitting" in text:
            self.written.set()
        return super().write(text)


def console(file: io.StringIO, *, terminal: bool) -> Output:
    return Output(file=file, force_terminal=terminal, width=40)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "_FIRST_SECONDS", 0.0)


def test_a_terminal_shows_the_step_and_no_line_is_left() -> None:
    file = Told()
    with ProgressLine(console(file, terminal=True)) as line:
        line.say("fitting 12 attempts")
        assert file.written.wait(60)
    assert re.search(r"0:0\d  fitting 12 attempts", file.getvalue())
    _, _, after = file.getvalue().rpartition("attempts")
    assert "\x1b[2K" in after, "the line is erased"


@pytest.mark.parametrize(("terminal", "silent"), [(False, False), (True, True)])
def test_without_a_terminal_or_with_json_nothing_is_written(terminal: bool, silent: bool) -> None:
    file = io.StringIO()
    with ProgressLine(console(file, terminal=terminal), silent=silent) as line:
        line.say("fitting 12 attempts")
    assert file.getvalue() == ""


def test_a_command_that_is_fast_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "_FIRST_SECONDS", 3600.0)
    file = io.StringIO()
    with ProgressLine(console(file, terminal=True)) as line:
        line.say("fitting 12 attempts")
    assert file.getvalue() == ""


def test_a_line_is_not_wider_than_the_terminal() -> None:
    line = ProgressLine(console(io.StringIO(), terminal=True))
    line.say("fitting " + "9" * 80)
    assert len(line.text(3700.0)) == 40
    assert line.text(3700.0).startswith("1:01:40  fitting 9")


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> Any:
            raise BrokenPipeError

    with ProgressLine(console(Gone(), terminal=True)) as line:
        line.say("fitting 12 attempts")
