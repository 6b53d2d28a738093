"""`.env`: what it may say, and that it never says anything aloud."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.dotenv import parse_env, with_file
from harness.records.errors import InputError

FILE = """
# keys
PLAIN=abc
export EXPORTED=def
SPACED =  ghi   # not part of it
HASHED=a#b
EMPTY=
EMPTY_TOO= # nothing
SINGLE='a "b" \\n #c'  # said
DOUBLE="a 'b' \\"c\\" \\\\ d#e\\n"
EQUALS=a=b==
TWICE=1
TWICE=2
"""


def test_every_way_to_write_a_value_is_read() -> None:
    assert parse_env(FILE, ".env") == {
        "PLAIN": "abc",
        "EXPORTED": "def",
        "SPACED": "ghi",
        "HASHED": "a#b",
        "EMPTY": "",
        "EMPTY_TOO": "",
        "SINGLE": 'a "b" \\n #c',
        "DOUBLE": "a 'b' \"c\" \\ d#e\n",
        "EQUALS": "a=b==",
        "TWICE": "2",
    }


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))))
def test_a_value_that_a_shell_would_read_is_read_alike(value: str) -> None:
    quoted = shlex.quote(value)
    if "'\"'\"'" not in quoted:  # the shell joins quoted parts; this file does not
        assert parse_env(f"KEY={quoted}", ".env") == {"KEY": value}


@given(st.text())
def test_any_text_is_read_or_refused_without_showing_it(text: str) -> None:
    said = None
    try:
        parse_env(text, "f")
    except InputError as error:
        said = re.sub(r"\d+", "N", str(error))
    assert said in {
        None,
        "f:N: must have the form KEY=VALUE; correct that line",
        "f:N: the closing quote is missing; correct that line",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sk-secret", "must have the form KEY=VALUE"),
        ("1KEY=sk-secret", "must have the form KEY=VALUE"),
        ("KEY='sk-secret", "quote is missing"),
        ('KEY="sk-secret" more', "quote is missing"),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_never_shown(line: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_env(f"A=1\n{line}\n", ".env")
    assert str(raised.value).startswith(".env:2: ")
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_environment_goes_before_the_file_even_when_it_is_empty(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("KEY=from file\nOTHER=too\n")
    assert with_file({"KEY": "set"}, file, "KEY") == {"KEY": "set"}
    assert with_file({"KEY": ""}, file, "KEY")["KEY"] == ""
    assert with_file({"A": "b"}, file, "KEY") == {"A": "b", "KEY": "from file", "OTHER": "too"}
    assert with_file({"OTHER": "set"}, file, "KEY")["OTHER"] == "set"


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert with_file({"A": "b"}, tmp_path / ".env", "KEY") == {"A": "b"}


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"KEY=\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        with_file({}, file, "KEY")
    with pytest.raises(InputError, match="cannot be read"):
        with_file({}, tmp_path, "KEY")


def test_a_file_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("broken")
    assert with_file({"KEY": "set"}, file, "KEY") == {"KEY": "set"}
