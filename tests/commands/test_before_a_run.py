"""What a person meets before a run that costs money, from the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from harness.bench.endpoints import OpenAIEndpoint
from harness.bench.preflight import is_paid
from harness.bench.scenario import load_scenario, parse_scenario
from harness.bench.shipped import described, find
from harness.bench.store import read_records
from harness.cli import main
from tests.bench.toml import dumps
from tests.commands.answering import Refusing, refusing, working

KEY = "sk-plantedkeyplantedkey"


def scenario(folder: Path, base_url: str, **sections: object) -> Path:
    base: dict[str, object] = {
        "name": "own",
        "workflow": {
            "topics": ["tides"],
            "sub_questions": 3,
            "max_tokens": {"decompose": 4000, "research": 4000, "synthesize": 4000},
        },
        "endpoint": {
            "kind": "openai",
            "base_url": base_url,
            "model": "m",
            "api_key_env": "OWN_KEY",
            "price": {"input": 1.0, "output": 2.0},
        },
        "load": {"workflows": 4, "in_flight": 4},
        "sweep": {"mode": ["async"], "permits": [4]},
    }
    file = folder / "own.toml"
    file.write_text(dumps({**base, **sections}))
    return file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder of one's own, with a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN_KEY", KEY)
    return tmp_path


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat endpoints on loopback as ones that cost money."""
    monkeypatch.setattr("harness.commands.estimate.is_paid", lambda endpoint: True)


class Terminal(io.StringIO):
    """A person at a terminal who types one thing."""

    def isatty(self) -> bool:
        return True


def one_line(said: str) -> str:
    [line] = said.splitlines()
    assert line.startswith("harness: ")
    return line


# The estimate.


def test_a_dry_run_shows_cells_and_estimate_and_leaves_nothing(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenario(elsewhere, "https://api.test/v1", budget={"usd": 0.5})
    before = set(elsewhere.iterdir())
    assert main(["run", str(file), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert max(map(len, told.out.splitlines())) <= 80
    for said in ("20;", "at most", "USD", "0.5 USD", "async", "attempt", "https://api.test/v1"):
        assert said in told.out
    assert set(elsewhere.iterdir()) == before


def test_a_dry_run_needs_no_key_and_sends_nothing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OWN_KEY")
    with refusing(500) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url)), "--dry-run"]) == 0
    assert refuser.keys == []


def test_a_dry_run_as_json_is_json_with_the_same_numbers(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenario(elsewhere, "https://api.test/v1")
    assert main(["run", str(file), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["cells"] == ["async_4_none_attempt"]
    assert plan["estimate"]["calls"] == 20
    assert plan["simulated"] is False


@pytest.mark.parametrize("name", sorted(described()))
def test_every_shipped_scenario_can_be_asked_what_it_would_do(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", name, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80


def test_a_dry_run_of_a_simulated_scenario_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstart", "--dry-run"]) == 0
    assert "SIMULATED" in capsys.readouterr().out


# The question.


@pytest.mark.usefixtures("paid")
def test_without_a_terminal_a_paid_run_must_be_confirmed_beforehand(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with refusing(500) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url))]) == 2
    assert "--yes" in one_line(capsys.readouterr().err)
    assert refuser.keys == []
    assert not (elsewhere / "results").exists()


@pytest.mark.usefixtures("paid")
@pytest.mark.parametrize("typed", ["n\n", "\n", "", "no\n", "maybe\n"])
def test_anything_but_a_yes_at_the_terminal_sends_nothing(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    with refusing(500) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url))]) == 2
    told = capsys.readouterr().err
    assert "Go on?" in told
    assert "not confirmed" in told
    assert "at most" in told
    assert max(map(len, told.splitlines())) <= 80
    assert refuser.keys == []
    assert not (elsewhere / "results").exists()


@pytest.mark.usefixtures("paid")
def test_a_yes_at_the_terminal_goes_on(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    with working(elsewhere) as base_url:
        assert main(["run", str(scenario(elsewhere, base_url)), "--out", "out", "--quiet"]) == 0
    assert "at most" in capsys.readouterr().err, "nobody says yes to what was not shown"
    assert len(read_records(elsewhere / "out").calls) == 20


@pytest.mark.usefixtures("paid")
def test_a_yes_beforehand_shows_the_estimate_and_asks_nothing(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(elsewhere) as base_url:
        assert main(["run", str(scenario(elsewhere, base_url)), "--out", "out", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "at most" in told
    assert "Go on?" not in told


def test_on_this_machine_nobody_is_asked(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(elsewhere) as base_url:
        assert main(["run", str(scenario(elsewhere, base_url)), "--out", "out"]) == 0
    assert "Go on?" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("base_url", "price", "costs"),
    [
        ("https://api.deepseek.com", None, True),
        ("http://10.0.0.7:8000/v1", None, True),
        ("http://10.0.0.7:8000/v1", {"input": 0.0, "output": 0.0}, False),
        ("http://10.0.0.7:8000/v1", {"input": 0.0, "output": 0.1}, True),
        ("http://localhost:8000/v1", None, False),
        ("http://LOCALHOST:8000/v1", {"input": 1.0, "output": 1.0}, False),
        ("http://127.0.0.2/v1", None, False),
        ("http://[::1]:8000/v1", None, False),
        ("https://localhost.example.com/v1", None, True),
        ("https://127.0.0.1.example.com/v1", None, True),
    ],
)
def test_what_may_cost_money(base_url: str, price: dict[str, float] | None, costs: bool) -> None:
    endpoint = {"kind": "openai", "base_url": base_url, "model": "m"}
    read = parse_scenario(
        dumps(
            {
                "name": "n",
                "workflow": {"topics": ["t"]},
                "endpoint": {**endpoint, **({"price": price} if price else {})},
            }
        ),
        "f",
    )
    assert isinstance(read.endpoint, OpenAIEndpoint)
    assert is_paid(read.endpoint) is costs


# The key.


def test_the_key_is_taken_from_a_file_in_the_current_folder(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OWN_KEY")
    (elsewhere / ".env").write_text("export OWN_KEY='from-the-file'\n")
    with refusing(401) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url)), "--out", "out"]) == 2
    assert set(refuser.keys) == {"Bearer from-the-file"}


def test_the_environment_goes_before_the_file(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text("OWN_KEY=from-the-file\n")
    with refusing(401) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url)), "--out", "out"]) == 2
    assert set(refuser.keys) == {f"Bearer {KEY}"}


def test_a_missing_key_and_a_broken_file_are_one_line(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OWN_KEY")
    file = scenario(elsewhere, "http://127.0.0.1:9")
    assert main(["run", str(file)]) == 2
    assert "OWN_KEY: not set" in one_line(capsys.readouterr().err)
    (elsewhere / ".env").write_text("sk-secret\n")
    assert main(["run", str(file)]) == 2
    said = one_line(capsys.readouterr().err)
    assert ".env:1:" in said
    assert "secret" not in said


def holds_key(folder: Path) -> list[Path]:
    """Return the files that hold the planted key, whole or in its telling part."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if b"plantedkey" in path.read_bytes()]


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_the_key_stands_in_no_output_and_no_file_of_a_run(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, transcripts=True, sweep={"mode": [mode]})
        assert main(["run", str(file), "--out", "out"]) == 0
    told = capsys.readouterr()
    assert "plantedkey" not in told.out + told.err
    assert holds_key(elsewhere) == []


@pytest.mark.parametrize(
    ("status", "mode"), [(400, "async"), (401, "threads"), (500, "sync"), (500, "async")]
)
def test_not_even_a_server_that_repeats_the_key_brings_it_into_a_file(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], status: int, mode: str
) -> None:
    with refusing(status) as refuser:
        file = scenario(elsewhere, refuser.base_url, transcripts=True, sweep={"mode": [mode]})
        assert main(["run", str(file), "--out", "out"]) in (1, 2)
        assert refuser.keys[0] == f"Bearer {KEY}"
    told = capsys.readouterr()
    assert "plantedkey" not in told.out + told.err
    assert holds_key(elsewhere) == []


# The first answer.


def refused(folder: Path, refuser: Refusing, mode: str) -> int:
    file = scenario(folder, refuser.base_url, sweep={"mode": [mode], "permits": [4]})
    return main(["run", str(file), "--out", "out"])


@pytest.mark.parametrize(
    ("status", "way_out", "mode"),
    [
        (401, "check the API key (OWN_KEY)", "async"),
        (401, "check the API key (OWN_KEY)", "threads"),
        (401, "check the API key (OWN_KEY)", "sync"),
        (402, "top up the account", "async"),
        (403, "the key may not use this model", "async"),
        (404, "check base_url and model", "async"),
    ],
)
def test_a_hopeless_first_answer_is_one_line_and_one_attempt(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    way_out: str,
    mode: str,
) -> None:
    with refusing(status) as refuser:
        assert refused(elsewhere, refuser, mode) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(status) in said
    assert way_out in said
    assert "Traceback" not in said
    records = read_records(elsewhere / "out")
    assert [attempt.status for attempt in records.attempts] == [status]
    assert not records.calls
    assert not records.workflows
    assert records.run.status == "partial"
    assert records.run.stopped is not None
    assert records.run.stopped.by == "first_call"


# The budget.


@pytest.mark.parametrize(
    ("budget", "named", "mode"),
    [
        ({"usd": 0.1}, "budget.usd = 0.1", "sync"),
        ({"usd": 0.1}, "budget.usd = 0.1", "threads"),
        ({"usd": 0.1}, "budget.usd = 0.1", "async"),
        ({"attempts": 27}, "budget.attempts = 27", "async"),
        ({"tokens": 60_000}, "budget.tokens = 60000", "async"),
    ],
)
def test_a_budget_stops_the_run_with_what_there_is_saved_and_shown(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    budget: dict[str, float],
    named: str,
    mode: str,
) -> None:
    with working(elsewhere) as base_url:
        file = scenario(
            elsewhere, base_url, budget=budget, sweep={"mode": [mode], "permits": [4], "repeats": 9}
        )
        assert main(["run", str(file), "--out", "out"]) == 3
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert last.startswith(f"harness: stopped: {named}")
    assert "spent" in last
    records = read_records(elsewhere / "out")
    assert records.run.status == "partial"
    assert (elsewhere / "out" / "summary.json").exists()
    assert list((elsewhere / "out" / "plots").iterdir())
    done = [attempt for attempt in records.attempts if attempt.outcome == "ok"]
    assert len(done) == len(records.attempts) == len(records.calls) > 0
    read = sum(attempt.tokens.input or 0 for attempt in done)
    written = sum(attempt.tokens.output or 0 for attempt in done)
    assert len(done) <= budget.get("attempts", 10**9)
    assert read + written <= budget.get("tokens", 10**9)
    assert read * 1e-6 + written * 2e-6 <= budget.get("usd", 10**9)
    assert records.run.price is not None
    assert records.run.price["output"] == 2.0


def test_a_budget_that_is_enough_stops_nothing(elsewhere: Path) -> None:
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, budget={"attempts": 20})
        assert main(["run", str(file), "--out", "out", "--quiet"]) == 0
    assert read_records(elsewhere / "out").run.stopped is None


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"budget": {"usd": 1.0}, "workflow": {"topics": ["t"], "max_tokens": {"research": 5}}},
            "give workflow.max_tokens for: decompose, synthesize",
        ),
        (
            {"budget": {"tokens": 5}, "workflow": {"topics": ["t"]}},
            "give workflow.max_tokens for: decompose, research, synthesize",
        ),
        ({"budget": {"usd": 1.0}, "price": None}, "give [endpoint.price]"),
        ({"budget": {"usd": 1.0}, "extra_body": {"n": 2}}, "with n in extra_body"),
        (
            {"budget": {"usd": 1.0}, "extra_body": {"max_completion_tokens": 9}},
            "with max_completion_tokens in extra_body",
        ),
        ({"budget": {"usd": 0.0}}, "budget.usd = 0.0"),
        ({"budget": {"attempts": 0}}, "budget.attempts = 0"),
        ({"budget": {"euros": 1}}, "budget.euros: unknown key"),
        ({"objective": {"minimise": "cost_per_successful_workflow"}, "price": None}, "price is"),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_kept_is_refused_in_one_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, object], said: str
) -> None:
    endpoint: dict[str, object] = {
        "kind": "openai",
        "base_url": "https://api.test/v1",
        "model": "m",
        "price": {"input": 1.0, "output": 2.0},
    }
    if "price" in sections:
        del endpoint["price"]
    if "extra_body" in sections:
        endpoint["extra_body"] = sections["extra_body"]
    rest = {key: value for key, value in sections.items() if key not in ("price", "extra_body")}
    file = scenario(elsewhere, "https://api.test/v1", endpoint=endpoint, **rest)
    assert main(["run", str(file), "--dry-run"]) == 2
    assert said in one_line(capsys.readouterr().err)


# The scenarios that come with the harness.


@pytest.mark.parametrize(
    ("name", "variable", "body"),
    [
        ("deepseek", "DEEPSEEK_API_KEY", {"thinking": {"type": "enabled"}}),
        ("openrouter", "OPENROUTER_API_KEY", {"reasoning": {"enabled": True}}),
        ("vllm", None, {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}}),
    ],
)
def test_the_live_scenarios_ask_for_thinking_with_the_key_of_their_provider(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str | None, body: dict[str, object]
) -> None:
    if variable:
        monkeypatch.setenv(variable, KEY)
    with refusing(401) as refuser:
        settings = [f"endpoint.base_url={refuser.base_url}", "endpoint.price={input=1, output=1}"]
        overrides = [part for setting in settings for part in ("--set", setting)]
        assert main(["run", name, "--out", "out", "--quiet", *overrides]) == 2
    assert (refuser.keys[0] == f"Bearer {KEY}") is (variable is not None)
    asked = refuser.bodies[0]
    assert asked["max_tokens"] > 0
    assert asked.items() >= body.items()


@pytest.mark.parametrize("name", ["deepseek", "openrouter"])
def test_the_scenarios_that_cost_money_have_a_budget_and_a_limit_for_every_answer(
    name: str,
) -> None:
    read = load_scenario(find(name))
    assert None not in read.workflow.max_tokens.model_dump().values()
    assert read.budget.usd or read.budget.tokens
    assert read.budget.usd is None or read.budget.usd < 1


def test_the_shipped_scenarios_are_listed_with_a_description_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["scenarios"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for line, (name, description) in zip(lines, described().items(), strict=True):
        assert line.split("  ", 1)[0] == name
        assert line.endswith(f"  {description}")
        assert description


def test_a_name_that_no_scenario_has_is_one_line_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "quikstart"]) == 2
    assert "did you mean 'quickstart'" in one_line(capsys.readouterr().err)


def test_too_few_open_files_are_one_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda what: (64, 64))
    monkeypatch.setattr("resource.setrlimit", lambda what, limits: None)
    assert main(["run", str(scenario(elsewhere, "http://127.0.0.1:9"))]) == 2
    assert "ulimit -n" in one_line(capsys.readouterr().err)
    assert not (elsewhere / "results").exists()
