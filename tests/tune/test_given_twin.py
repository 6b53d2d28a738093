"""A tune that starts from a twin: what it tries first, what it records, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench.cells import expand
from harness.bench.resume import RunProgress, progress_of
from harness.bench.runner import describe_run
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.cli import execute
from harness.cli.main import main
from harness.cli.parser import command_parser
from harness.records.tune_blocks import TuneBlock
from harness.store.run_directory import each, read_run
from harness.tune.blocks import TunePlan
from harness.tune.candidates import tune_scenario
from harness.tune.given_twin import given_profile
from tests.tune.test_tunes import SCENARIO

TWIN = """
name = "fitted"
description = "Fitted to a run"
source = "harness fit"
date = 2026-11-01
itl_a = "20ms"
concurrency_cap = 6
ttft = { median = "400ms", sigma = 0.2 }
answer_tokens = { median = 100, sigma = 0.3 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    (folder / "twin.toml").write_text(TWIN)
    (folder / "capped.toml").write_text(SCENARIO)
    return folder


def tuned(*overrides: str) -> Scenario:
    return tune_scenario(parse_scenario(SCENARIO, "capped.toml", overrides), "capped.toml")


def decided(begun: RunProgress, directory: Path) -> tuple[TuneBlock, list[str]]:
    """Return the first decision, and the settings of the first block of trials."""
    recorded: list[TuneBlock] = []
    batches: Iterator[object] = TunePlan(lambda _: None)(begun, directory, recorded.append)
    batch = next(batches)
    return recorded[0], [cell.id for cell, _ in batch.trials]  # type: ignore[attr-defined]


def test_the_first_block_has_what_leads_at_the_twin(folder: Path, tmp_path: Path) -> None:
    scenario = tuned()
    twin = given_profile(str(folder / "twin.toml"), scenario)
    run = describe_run(scenario, {}, expand(scenario), (), tuned=True, twin=twin)
    block, tried = decided(RunProgress(scenario, run), tmp_path)
    assert block.leading.startswith("async_6_")
    assert block.leading in tried
    assert any(name.startswith("async_12_") for name in tried), "the most permits"
    assert len({name.split("_")[1] for name in tried}) == len(tried) == 3
    # It may be of another day, so nothing is ruled out before it was measured.
    assert block.ruled_out == ()
    assert {block.leading, *block.open} == {cell.id for cell in run.cells}
    (leading,) = (one for one in block.outlooks if one.cell == block.leading)
    assert leading.high / leading.low == pytest.approx(2.718 ** (2 * 1.96 * 0.1), rel=1e-3)


def test_without_a_twin_the_first_block_is_fixed(tmp_path: Path) -> None:
    scenario = tuned()
    run = describe_run(scenario, {}, expand(scenario), (), tuned=True)
    block, _ = decided(RunProgress(scenario, run), tmp_path)
    assert (block.leading, block.outlooks) == ("", ())


def test_the_twin_is_in_the_run_so_that_a_tune_can_go_on_with_it(
    folder: Path, tmp_path: Path
) -> None:
    scenario, twin, directory = folder / "capped.toml", folder / "twin.toml", tmp_path / "run"
    arguments = ["tune", str(scenario), "--twin", str(twin), "--out", str(directory), "--quiet"]
    assert main([*arguments, "--set", "budget.attempts=60"]) == 3
    options = command_parser().parse_args(arguments)
    rerun = execute.rerun_of(options, tuned(), read_run(directory))
    assert rerun is not None
    assert f"--twin {twin}" in rerun.command()
    assert rerun.blocks == tuned().tune.max_blocks
    first, *_ = each(directory, TuneBlock)
    assert read_run(directory).twin == given_profile(str(twin), tuned())
    (directory / "tune.jsonl").unlink()  # as if it had been killed before its first decision
    again, _ = decided(progress_of(directory), directory)
    assert again == first


@pytest.mark.parametrize(
    ("twin", "extra", "said"),
    [
        ("missing.toml", [], "--twin: profile "),
        ("broken.toml", [], "--twin: profile "),
        ("unheard-of", [], "--twin: profile unheard-of: no such profile"),
        (
            "twin.toml",
            ["--set", 'tune."endpoint.override.concurrency_cap"=[4, 8]'],
            "the tune varies endpoint.override.concurrency_cap, and a twin is of one provider",
        ),
        ("twin.toml", ["--resume", "results/run"], "twin cannot be given with it"),
    ],
)
def test_a_twin_that_cannot_be_used_is_one_line(
    twin: str, extra: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.toml").write_text("concurrency_cap = 0")
    name = str(folder / twin) if twin.endswith(".toml") else twin
    scenario = [] if "--resume" in extra else [str(folder / "capped.toml"), "--dry-run"]
    assert main(["tune", *scenario, "--twin", name, *extra]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
