"""How options are read: their values as numbers, and each mistake as one line with the way out."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from typing import NoReturn

from harness.records.errors import InputError

_NO_CHOICE = re.compile(r"(.+?): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)
"""The message of argparse for a word that is none of those that an argument takes."""

_MOST_NAMED = 5
"""More words than this are left to the help."""

_MOST_DIGITS = 18
"""Of a whole number: it fits into 64 bits."""


class ArgumentParser(argparse.ArgumentParser):
    """A parser that raises InputError instead of printing its usage and ending the program."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with the message of argparse and the command that shows the usage."""
        what = message.removeprefix("argument ")
        choice = _NO_CHOICE.fullmatch(what)
        if choice is not None:
            option, value, known = choice.groups()
            names = [name.strip("'") for name in known.split(", ")]
            close = difflib.get_close_matches(value, names, n=1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            if not close and len(names) <= _MOST_NAMED:
                meant = f", not one of {', '.join(names)}"
            what = f"{option} {value}: invalid choice{meant}"
        raise InputError(f"{what}; `{self.prog} --help` shows what can be given")


def checked(option: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Return `read` with its ValueError as InputError, which names the option and the value."""

    def read_option(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise InputError(f"{option} {text}: {error}") from None

    return read_option


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1, "a whole number, at least 1")


def natural(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole(text, 0, f"a whole number, at least 0, of at most {_MOST_DIGITS} digits")


def _whole(text: str, least: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or int(text) < least:
        raise ValueError(f"give {what}")
    return int(text)


def probability(text: str) -> float:
    """Read a number between 0 and 1."""
    number = _number(text)
    if not 0 < number < 1:
        raise ValueError("give a share between 0 and 1, such as 0.8 for 80 %")
    return number


def time_scale(text: str) -> float:
    """Read a number above 0, up to 1."""
    number = _number(text)
    if not 0 < number <= 1:
        raise ValueError("give a number above 0, up to 1, such as 0.01")
    return number


def _number(text: str) -> float:
    """Return the number that a text holds; nan, which is in no range, if it holds none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
