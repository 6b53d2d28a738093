"""`harness ask`: one question over HTTP, what is shown of the answer, and what it took."""

from __future__ import annotations

import _thread
import io
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.bench.single_call import TextPart, _TextParts
from harness.cli.main import main
from harness.config.toml_text import toml_document
from harness.records.redaction import Redactor
from harness.report.console import printable_lines
from tests.cli.answering import FAST, KEY, one_line, refusing, scenario
from tests.transports.bodies import EVENT_STREAM, chunk
from tests.wire.fault_server import FaultServer, Hold, Seen, Step, Write, framed, head
from tests.wire.quirks import body, stream

REASONING, ANSWER = "Two bulges,\nI think.", "The Moon pulls water.\nTwice a day."
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["ask", *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def answering(steps: Sequence[Step]) -> FaultServer:
    return FaultServer(lambda seen: steps)


def own(server: FaultServer, *more: str) -> Sequence[str]:
    return ["--endpoint", server.base_url, "--model", "m", *more]


def thinking(*answers: str) -> Sequence[Step]:
    texts = [chunk(reasoning_content=part) for part in (REASONING[:7], REASONING[7:])]
    return stream(*texts, *(chunk(content=answer) for answer in answers))


def test_the_answer_alone_goes_to_the_output(ask: Ask) -> None:
    with answering(thinking(ANSWER[:9], ANSWER[9:])) as server:
        code, out, err = ask("Why two tides?", *own(server))
    [seen] = server.seen
    sent = json.loads(seen.body)
    assert code == 0
    assert out == f"{ANSWER}\n"
    assert err.startswith(f"{REASONING}\n\nOutcome: ok; first text after ")
    assert "output tokens" in " ".join(err.split())
    assert err.split()[-3:] == ["m", "at", server.base_url]
    assert sent["messages"] == [{"role": "user", "content": "Why two tides?"}]
    assert sent["stream"] is True
    assert sent["max_tokens"] == 4000
    assert seen.header("authorization") == "Bearer none"


def test_a_response_that_is_no_stream_is_shown_too(ask: Ask) -> None:
    fields = {"content": ANSWER, "reasoning_content": REASONING}
    with answering(body(fields)) as server:
        code, out, err = ask("Why?", *own(server))
    assert (code, out) == (0, f"{ANSWER}\n")
    assert "the server deviates from the API: wrong_form" in " ".join(err.split())


def test_json_has_texts_times_and_tokens(ask: Ask) -> None:
    with answering(thinking(ANSWER)) as server:
        code, out, err = ask("Why?", *own(server, "--json"))
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert (said["reasoning"], said["answer"], said["outcome"]) == (REASONING, ANSWER, "ok")
    assert 0 < said["first_text_s"] <= said["duration_s"]
    assert said["tokens"]["output"] > 0
    assert said["simulated"] is False


def test_a_question_is_read_from_a_pipe(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Why\ntwo tides?\n"))
    with answering(thinking(ANSWER)) as server:
        assert ask(*own(server))[0] == 0
    assert json.loads(server.seen[0].body)["messages"][0]["content"] == "Why\ntwo tides?\n"


@pytest.mark.parametrize(
    ("arguments", "piped", "says"),
    [
        ([], " \n", "the question is empty"),
        ([], "x" * 1_000_001, "more than 1,000,000 characters"),
        (["a", "--endpoint", "http://127.0.0.1:1/v1"], "", "add --model"),
        (
            ["a", "--simulated", "--endpoint", "http://h/v1", "--model", "m"],
            "",
            "--simulated: remo",
        ),
        (["a", "--scenario", "quickstart"], "", "quickstart: runs in virtual time"),
        (["a", "--scenario", "nothing"], "", "nothing"),
        (["a"], "", "DEEPSEEK_API_KEY: not set"),
        (["\udcff"], "", "not valid UTF-8"),
    ],
)
def test_a_mistake_is_one_line(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, arguments: list[str], piped: str, says: str
) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert says in one_line(err)


def test_a_refusal_says_what_the_server_said_without_the_key(ask: Ask, elsewhere: Path) -> None:
    with refusing(401) as server:
        file = scenario(elsewhere, server.base_url)
        code, out, err = ask("Why?", "--scenario", str(file))
    said = " ".join(err.split())
    assert (code, out) == (1, "")
    assert server.keys == [f"Bearer {KEY}"]
    assert "Outcome: unauthorized" in said
    assert "the server says: no: Bearer [redacted]" in said
    assert "OWN_KEY" in said
    assert KEY not in err


def test_nobody_at_the_endpoint(ask: Ask) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        code, _, err = ask("Why?", "--endpoint", url, "--model", "m")
    assert code == 1
    assert "connect_failed" in err


def test_an_interruption_closes_the_stream_and_still_says_what_it_took(ask: Ask) -> None:
    begun = framed(chunk(content="The Moon "))
    closed = False

    def answer(seen: Seen) -> Sequence[Step]:
        return [Write(head(200, ("content-type", EVENT_STREAM)) + begun), Hold()]

    def interrupt(self: object, part: TextPart) -> None:
        shown.append(part.text)
        _thread.interrupt_main()

    shown: list[str] = []
    with FaultServer(answer) as server, pytest.MonkeyPatch.context() as patched:
        patched.setattr("harness.cli.ask._Shown.add", interrupt)
        code, _, err = ask("Why?", *own(server))
        closed = server.settled(lambda: server.open == 0)
    assert shown == ["The Moon "]
    assert closed
    assert code == 130
    assert err.startswith("Outcome: interrupted; first text after ")


def test_a_key_that_the_server_repeats_in_pieces_is_not_shown(ask: Ask, elsewhere: Path) -> None:
    pieces = ["Your key: ", KEY[:5], KEY[5:11], KEY[11:], " and more"]
    with answering(stream(*(chunk(content=one) for one in pieces))) as server:
        code, out, _ = ask("Why?", "--scenario", str(scenario(elsewhere, server.base_url)))
    assert (code, out) == (0, "Your key: [redacted] and more\n")


def test_texts_cannot_control_the_terminal(ask: Ask) -> None:
    with answering(
        stream(chunk(content="a\x1b[2Jb\u202ec\x07\r\nd [bold]e[/bold] \U0001f30a"))
    ) as one:
        _, out, _ = ask("Why?", *own(one))
    assert out == "a\ufffd[2Jb\ufffdc\ufffd\ufffd\nd [bold]e[/bold] \U0001f30a\n"
    assert printable_lines("tab\there\n") == "tab\there\n"


def test_the_simulated_provider_says_that_it_is_one(ask: Ask, elsewhere: Path) -> None:
    file = elsewhere / "fast.toml"
    endpoint = {"kind": "simulated", "override": FAST, "time_scale": 0.01}
    file.write_text(toml_document(_simulated(endpoint)))
    code, out, err = ask("Why?", "--scenario", str(file))
    assert code == 0
    assert len(out) > 20
    assert "SIMULATED provider" in " ".join(err.split())
    assert "price" not in err


def _simulated(endpoint: dict[str, Any]) -> dict[str, Any]:
    return {"name": "fast", "workflow": {"topics": ["a"]}, "endpoint": endpoint}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["sk-pl", "ain ", "text"], ["sk-plain ", "text"]),
        (["a secret: sk-plan", "ted-123", "!"], ["a secret: ", "[redacted]!"]),
        (["half a secret sk-plant"], ["half a secret ", "[redacted]"]),
        (["\U0001f30a", " wave"], ["\U0001f30a", " wave"]),
    ],
)
def test_what_may_begin_a_secret_waits(pieces: list[str], expected: list[str]) -> None:
    parts = _TextParts(Redactor(["sk-planted-123"]))
    taken, so_far = [], ""
    for piece in pieces:
        so_far += piece
        taken += parts.take("", so_far)
    taken += parts.take("", so_far, is_end=True)
    assert [part.text for part in taken] == expected


def test_an_answer_that_was_reasoning_is_not_repeated() -> None:
    parts = _TextParts(Redactor())
    assert parts.take("", "I think") == [TextPart(False, "I think")]
    assert parts.take("I think so.", "Yes", is_end=True) == [
        TextPart(True, " so."), TextPart(False, "Yes"),
    ]  # fmt: skip


def test_a_short_secret_waits_for_the_end_of_its_word() -> None:
    redactor = Redactor(["abc123"])
    assert redactor.held_from("it is abc") == len("it is ")
    assert redactor.held_from("it is abc123 ") == len("it is abc123 ")


def test_a_pipe_that_closes_ends_the_call(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, part: TextPart) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("harness.cli.ask._Shown.add", broken)

    def answer(seen: Seen) -> Sequence[Step]:
        begun = framed(chunk(content="The Moon "))
        return [Write(head(200, ("content-type", EVENT_STREAM)) + begun), Hold()]

    with FaultServer(answer) as server:
        assert ask("Why?", *own(server))[0] == 141
        assert server.settled(lambda: server.open == 0)
