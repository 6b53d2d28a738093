"""What a command gets: its arguments, its environment, and what is kept of its output."""

from __future__ import annotations

from harness.client.child_process import MOST_STDERR, MOST_STDERR_LINES, last_lines
from harness.workflows.command.environment import CommandFields, command_environment
from harness.workflows.command.kind import exit_text

FIELDS = CommandFields("tides", "http://gateway", "key")


def environment(inherited: dict[str, str], withheld: tuple[str, ...] = ("A",)) -> dict[str, str]:
    own = {"BASE": "{gateway}/v1", "TOPIC": "{topic}"}
    return command_environment(inherited, withheld, own, FIELDS, "127.0.0.1")


def test_a_field_stands_for_its_value_and_other_braces_for_themselves() -> None:
    assert FIELDS.fill("{topic} {key} {other} {} {{topic}}") == "tides key {other} {} {tides}"


def test_a_value_with_a_field_in_it_is_not_filled_in_again() -> None:
    assert CommandFields("{gateway}", "http://gateway").fill("{topic}") == "{gateway}"


def test_a_key_is_withheld_under_every_name() -> None:
    found = environment({"A": "secret", "B": " secret\n", "C": "other", "OPENAI_API_KEY": "mine"})
    assert "secret" not in "".join(found.values())
    assert (found["C"], found["OPENAI_API_KEY"]) == ("other", "key")
    assert (found["BASE"], found["TOPIC"]) == ("http://gateway/v1", "tides")
    assert found["OPENAI_BASE_URL"] == "http://gateway"


def test_an_empty_key_withholds_no_empty_variable() -> None:
    assert environment({"A": "", "B": ""})["B"] == ""
    assert environment({"B": "x"})["B"] == "x"


def test_the_gateway_is_reached_without_a_proxy() -> None:
    found = environment({"NO_PROXY": "a.example"})
    assert (found["NO_PROXY"], found["no_proxy"]) == ("a.example,127.0.0.1", "127.0.0.1")


def test_the_last_lines_are_whole_unless_one_is_too_long_itself() -> None:
    lines = [f"line {number}\n" for number in range(100)]
    assert last_lines("".join(lines)) == "".join(lines[-MOST_STDERR_LINES:])
    long = "x" * (MOST_STDERR - 3) + "\n"
    assert last_lines(f"a\n{long}b\n") == f"{long}b\n"
    assert last_lines(f"a\n{long}bcd\n") == "bcd\n"
    assert last_lines("y" + "z" * MOST_STDERR) == "z" * MOST_STDERR


def test_an_exit_is_told_by_its_code_or_its_signal() -> None:
    assert exit_text(2) == "the command ended with exit code 2"
    assert exit_text(-15) == "the command was ended by SIGTERM"
    assert exit_text(-99) == "the command was ended by signal 99"
