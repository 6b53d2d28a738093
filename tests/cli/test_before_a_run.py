"""What a person meets before a run that costs money, from the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.cli.main import main
from harness.config.shipped_scenarios import described, find
from harness.config.toml_text import toml_document
from harness.endpoints import openai
from harness.store.run_directory import read_records
from tests.cli.answering import KEY, one_line, refusing, scenario, working

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat endpoints on loopback as ones that cost money."""
    monkeypatch.setattr(openai, "_may_cost", lambda base_url, price: True)


class Terminal(io.StringIO):
    """A person at a terminal who types one thing."""

    def isatty(self) -> bool:
        return True


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


@pytest.mark.parametrize(
    ("budget", "warned"),
    [
        ({"attempts": 10}, "budget.attempts = 10 can end this run early; --set budget.attempts="),
        ({"tokens": 99}, "budget.tokens = 99 can end this run early; --set budget.tokens="),
        ({"usd": 0.0001}, "budget.usd = 0.0001 can end this run early; --set budget.usd="),
        ({"seconds": 1}, "budget.seconds = 1 can end this run early; --set budget.seconds="),
        ({"attempts": 10_000, "usd": 100, "tokens": 10_000_000, "seconds": 50_000}, ""),
    ],
)
def test_a_budget_that_is_too_small_is_warned_of_before_the_run(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], budget: dict[str, float], warned: str
) -> None:
    command = ["run", str(scenario(elsewhere, "https://api.test/v1", budget=budget)), "--dry-run"]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("Warning: " in said) == bool(warned)
    if warned:
        assert f"Warning: {warned}" in said
        enough = said.split(warned)[1].split()[0]
        assert main([*command, "--set", f"budget.{next(iter(budget))}={enough}"]) == 0
        assert "Warning: " not in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert bool(json.loads(capsys.readouterr().out)["short_budgets"]) == bool(warned)


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["slo.success_rate=0.99", "load.workflows=4", "sweep.repeats=3"],
            "an SLO of 99 % needs 368 workflows without a failure in a setting at one look, 402 at "
            "the last of several looks (auto); this run has 12, so it cannot prove it; raise "
            "load.workflows or sweep.repeats",
        ),
        (
            ["slo.success_rate=0.99", "load.workflows=20", "sweep.repeats=auto"],
            "this run has at most 1,200, and can prove it after 36 repeats",
        ),
        (["load.workflows=24", "sweep.repeats=3", "slo.success_rate=0.9"], "this run has 72"),
        (["slo.success_rate=1"], "an SLO of 100 % cannot be proven by any number of workflows"),
    ],
)
def test_a_dry_run_says_what_the_proof_of_the_slo_takes(
    capsys: pytest.CaptureFixture[str], settings: list[str], said: str
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    assert main(["run", "quickstart", "--dry-run", *options]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_dry_run_of_repeats_until_settled_begins_with_the_first_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["run", "quickstart", "--dry-run", "--set", "sweep.repeats=auto"]
    assert main(options) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "6 settings x 4 to 60 repeats, until the recommendation is settled" in told
    assert "calls 2,880 to 43,200 if no call fails" in told  # 6 cells, 20 workflows, 6 calls
    assert main([*options, "--json"]) == 0
    repeats = json.loads(capsys.readouterr().out)["repeats"]
    assert (repeats["fewest"], repeats["most"]) == (4, 60)
    assert repeats["fewest"] <= repeats["first_proof"]


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
    assert "Continue?" in told
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
    assert "Continue?" not in told


def test_on_this_machine_nobody_is_asked(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(elsewhere) as base_url:
        assert main(["run", str(scenario(elsewhere, base_url)), "--out", "out"]) == 0
    assert "Continue?" not in capsys.readouterr().err


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
        toml_document(
            {
                "name": "n",
                "workflow": {"topics": ["t"]},
                "endpoint": {**endpoint, **({"price": price} if price else {})},
            }
        ),
        "f",
    )
    assert read.endpoint.facts.may_cost is costs


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
    assert None not in read.workflow.max_tokens.values()
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
