"""`harness init` writes a scenario that runs as it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench.scenario_file import load_scenario
from harness.cli.main import main
from harness.config import shipped_scenarios
from harness.store.run_directory import read_records
from tests.cli.answering import one_line, refusing, saying, working
from tests.cli.picky import Answer, Asked, picky


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    with working(tmp_path) as base_url:
        yield base_url


def harness(command: str) -> int:
    return main(shlex.split(command))


def test_a_simulated_scenario_is_written_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("init") == 0
    assert capsys.readouterr().out == "mine.toml\nNext: harness run mine.toml\n"
    assert harness("run mine.toml --dry-run") == 0
    assert "SIMULATED provider deepseek-reasoner" in capsys.readouterr().out


def test_a_file_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("precious")
    assert harness("init") == 2
    said = one_line(capsys.readouterr().err)
    assert said == "harness: mine.toml: exists already; name a new file with -o FILE"
    assert Path("mine.toml").read_text() == "precious"


def test_a_scenario_for_an_endpoint_of_ones_own_runs_as_it_is(
    provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(f"init --endpoint {provider} --model 429 -o 'my server.toml'") == 0
    assert harness("run 'my server.toml' --dry-run") == 0
    assert f"429 at {provider}" in capsys.readouterr().out
    assert harness("run 'my server.toml' --out out --quiet") == 0
    records = read_records(Path("out"))
    assert records.run.name == "my-server"
    assert records.run.marked_answers == "all"
    assert len(records.workflows) == 3 * 2 * 4


def test_the_variable_of_a_key_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("init --endpoint https://api.test/v1 --model m --api-key-env MY_KEY") == 0
    endpoint = load_scenario(Path("mine.toml")).endpoint
    assert endpoint.facts.key_variable == "MY_KEY"


@pytest.mark.parametrize("command", ["init", "run quickstart"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--endpoint http://a/v1",
            "--endpoint http://a/v1: add --model with the server's name of the model, as GET "
            "URL/models lists it",
        ),
        ("--model m", "--model m: add --endpoint with the base URL of the API"),
        ("--api-key-env K", "--api-key-env K: add --endpoint with the base URL of the API"),
    ],
)
def test_half_an_endpoint_is_refused(
    command: str, options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(f"{command} {options}") == 2
    assert one_line(capsys.readouterr().err) == f"harness: {said}"
    assert not Path("mine.toml").exists()


def test_a_wrong_url_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("init --endpoint ftp://a --model m") == 2
    assert "must be a URL" in one_line(capsys.readouterr().err)
    assert not Path("mine.toml").exists()


def test_a_shipped_scenario_runs_against_an_endpoint_of_ones_own(
    provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"--endpoint {provider} --model m"
    smaller = "--set load.workflows=1 --set sweep.repeats=1 --set sweep.permits=8"
    assert harness(f"run quickstart {own} {smaller} --out out --json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["marked_answers"] == "all"
    note = " ".join(said.err.split())
    assert f"24 calls in real time to {provider}, without an API key; without " in note
    assert "endpoint.profile, endpoint.time, endpoint.override of the scenario" in note
    assert read_records(Path("out")).run.scenario["endpoint"]["api_key_env"] is None


def test_a_scenario_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("scenarios quickstart") == 0
    assert capsys.readouterr().out == shipped_scenarios.find("quickstart").read_text()
    assert harness("scenarios quickstrat") == 2
    assert "did you mean 'quickstart'?" in one_line(capsys.readouterr().err)


def test_the_next_command_is_quoted_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("init -o 'a b;c.toml'") == 0
    assert capsys.readouterr().out == "a b;c.toml\nNext: harness run 'a b;c.toml'\n"
    assert "#   harness run 'a b;c.toml'\n" in Path("a b;c.toml").read_text()


def test_a_folder_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness("init -o nodir/x.toml") == 2
    said = one_line(capsys.readouterr().err)
    assert said.startswith("harness: nodir/x.toml: cannot be written (No such file or directory); ")
    assert said.endswith("with -o FILE")


@pytest.mark.parametrize("command", ["init", "run quickstart --dry-run"])
def test_a_line_break_in_the_model_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command.split(), "--endpoint", "http://127.0.0.1:9/v1", "--model", "a\nb"]
    assert main(arguments) == 2
    assert "endpoint.model" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("command", ["init", "run quickstart"])
@pytest.mark.parametrize("url", ["http://[::1/v1", "https://[abc]/v1", "http://a:b/v1"])
def test_an_invalid_url_is_refused_in_one_line(
    command: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--endpoint", url, "--model", "m"]) == 2
    said = one_line(capsys.readouterr().err)
    assert "endpoint.base_url" in said
    assert "must be a URL such as" in said


def test_a_server_whose_answers_have_no_questions_gets_them_from_the_scenario() -> None:
    """A server for load tests: the scenario runs as it is."""
    with saying("Lorem ipsum dolor sit amet, consectetur adipiscing elit.") as server:
        assert harness(f"init --endpoint {server.base_url} --model m") == 0
        assert len(server.bodies) == 1
        assert harness("run mine.toml --out out --quiet") == 0
    assert {one.outcome for one in read_records(Path("out")).workflows} == {"ok"}
    assert "was asked once" in Path("mine.toml").read_text()


@pytest.mark.parametrize("text", [None, '["Why?", "How?", "Where?", "When?"]'])
def test_a_server_that_refuses_or_writes_questions_is_not_given_any(text: str | None) -> None:
    with refusing(401 if text is None else 200, text) as server:
        assert harness(f"init --endpoint {server.base_url} --model m") == 0
        assert len(server.bodies) == 1
    assert "\nsub_questions = 4 " in Path("mine.toml").read_text()


def test_no_server_is_asked_that_may_cost_money_or_has_no_key_or_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with saying("Lorem ipsum.") as server:
        assert harness(f"init --endpoint {server.base_url} --model m --api-key-env MY_KEY") == 0
        assert harness(f"init --endpoint {server.base_url} --model m") == 2
        monkeypatch.setattr("harness.endpoints.openai._may_cost", lambda *_: True)
        assert harness(f"init --endpoint {server.base_url} --model m -o new.toml") == 0
        assert server.bodies == []


def test_an_answer_that_is_cut_off_has_no_questions_either() -> None:
    choice = {"message": {"content": "Lorem ipsum dolor"}, "finish_reason": "length"}
    body = json.dumps({"choices": [choice]}).encode()
    with picky(lambda _: Answer(200, {"content-type": "application/json"}, body)) as server:
        assert harness(f"init --endpoint {server.base_url} --model m") == 0
    assert "was asked once" in Path("mine.toml").read_text()


def test_the_answers_fit_into_the_context_that_the_server_names() -> None:
    listed = {"data": [{"id": "other", "max_model_len": 9}, {"id": "m", "max_model_len": 1024}]}

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(200, {"content-type": "application/json"}, json.dumps(listed).encode())
        if asked.body["max_tokens"] > 256:
            return Answer(400, {}, b"longer than the context")
        return Answer()

    with picky(answer) as server:
        assert harness(f"init --endpoint {server.base_url} --model m") == 0
        assert harness("run mine.toml --out out --quiet") == 0
    limits = load_scenario(Path("mine.toml")).workflow.max_tokens
    assert limits == {"decompose": 256, "research": 128, "synthesize": 256}
    assert {one.outcome for one in read_records(Path("out")).workflows} == {"ok"}


@pytest.mark.parametrize("listed", [b"<html>", b"[]", b'{"data": [{"id": "m"}]}', b'{"data": 1}'])
def test_a_list_of_models_without_a_context_changes_nothing(listed: bytes) -> None:
    with picky(lambda asked: Answer(200, {}, listed if asked.method == "GET" else None)) as server:
        assert harness(f"init --endpoint {server.base_url} --model m") == 0
    assert load_scenario(Path("mine.toml")).workflow.max_tokens["decompose"] == 6000
