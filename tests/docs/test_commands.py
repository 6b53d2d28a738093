"""The commands that the README and the documents show do what they say: each is run here."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.docs.test_readme import COMMANDS

pytestmark = pytest.mark.more

FEW = ["--set", "load.workflows=5", "--set", "sweep.repeats=2", "--quiet"]
PAID = [
    "--set", "endpoint.price={input = 1.0, output = 2.0}", "--set", "budget.usd=0.1", "--set",
    "workflow.max_tokens={decompose = 3000, research = 3000, synthesize = 4000}",
]  # fmt: skip
TEXTS = ["--set", "transcripts=true"]
TWO = [
    "--set", "sweep.mode=async", "--set", "sweep.permits=[2, 8]", "--set", "sweep.retry=none",
]  # fmt: skip
STANDS_FOR = {
    "scenarios/quickstart.toml": "quickstart", "scenarios/mine.toml": "mine.toml",
    "results/baseline": "results/RUN", "PATH": "mine.toml", "RUN": "results/RUN",
    "KEY": "async_8_full-jitter_attempt/1/3",
    "NAME": "quickstart", "BASE": "results/before", "NEW": "results/after",
    "URL": "http://127.0.0.1:9/v1", "M": "m",
}  # fmt: skip
NOT_RUN = {
    "run": "a name without its arguments",
    "reasoning diff": "the same",
    "tune": "the same; tests/tune runs it",
    "tune --resume RUN --set budget.attempts=N": "N is a number; tests/tune runs it",
    "run --resume RUN --dask SCHEDULER": "needs a cluster; tests/cluster has one",
    "tune quickstart --twin twin.toml": "tests/tune/test_given_twin.py runs it",
    "fit results/quickstart -o twin.toml": "tests/docs/test_twin.py runs it",
    "whatif results/quickstart --set 'sweep.permits=[3, 6]' --set 'sweep.retry=[\"openai-sdk\"]'": (
        "the same"
    ),
    "run quickstart --set endpoint.profile=twin.toml --out results/at-the-twin": "the same",
    "whatif results/quickstart --check results/second": "the same",
    "compare results/before results/after --fail-on 'cost_per_workflow>+10%'": (
        "needs runs with prices; tests/cli/test_costs.py has some"
    ),
    "report results/morning --verbose": "tests/cli/test_gateway_command.py runs such a chain",
    "trace results/morning --slowest 3": "the same",
    "fit results/morning -o twin.toml": "the same",
    "import results/morning/traces/async_8_openai-sdk_attempt.otlp.jsonl -o mine.toml": (
        "the same"
    ),
    "tune mine.toml --set endpoint.profile=twin.toml --set 'tune.permits=[2, 8, 32]'": ("the same"),
    "trace export results/RUN --endpoint http://127.0.0.1:4318": "needs a collector; "
    "tests/cli/test_export.py and tests/cli/test_traces_and_the_provider.py have one",
}


ELSEWHERE = {
    "serve": "serves until it is stopped; tests/cli/test_serve.py runs it",
    "gateway": "serves until it is stopped; tests/cli/test_gateway_command.py runs it",
    "ask": "needs a server that answers; tests/cli/test_ask.py has some",
    "import": "needs a record of calls; tests/docs/test_import.py has one",
}
"""Commands that are run by other tests, unless they only list something."""
CODES = {"doctor": (0, 1)}
"""The exit codes of commands that are not 0 alone: a check may find a missing key."""


def is_run(command: str) -> bool:
    """Return whether a command is run here."""
    name, *options = shlex.split(command)
    return command not in NOT_RUN and (name not in ELSEWHERE or "--list" in options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands need: a scenario and some runs."""
    made = tmp_path_factory.mktemp("commands")
    before = Path.cwd()
    os.chdir(made)
    try:
        assert main(["init"]) == 0
        assert main(["run", "quickstart", "--out", "results/RUN", *FEW, *TEXTS]) == 0
        assert main(["run", "quickstart", "--out", "results/mine", *FEW, *TEXTS, *TWO]) == 0
        assert main(["run", "quickstart", "--out", "results/PAID", *FEW, *PAID]) == 3
    finally:
        os.chdir(before)
    for name in ("before", "after", "OTHER"):
        shutil.copytree(made / "results" / "RUN", made / "results" / name)
    return made


def arguments_of(command: str) -> list[str]:
    """Return the arguments with which a command is run."""
    words = [STANDS_FOR.get(word, word) for word in shlex.split(command)]
    if "budget.usd=2" in words:
        return [word.replace("results/RUN", "results/PAID") for word in words]
    if words[0] in ("run", "tune") and "--resume" not in words and "--dry-run" not in words:
        return [*words, "--dry-run"]  # the golden runs have the scenarios
    return words


def test_what_is_not_run_is_in_a_document() -> None:
    assert NOT_RUN.keys() <= COMMANDS.keys()


@pytest.mark.parametrize("command", [command for command in COMMANDS if is_run(command)])
def test_a_command_of_a_document_ends_well(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MY_API_KEY", "none")
    words = arguments_of(command)
    if words[0] == "init":
        Path("mine.toml").unlink()
    assert main(words) in CODES.get(words[0], (0,)), capsys.readouterr().err
