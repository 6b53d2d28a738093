"""`harness compare` on run directories made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.analysis.compare import NO_CLEAR_CHANGE
from harness.cli.main import main
from harness.records.clock import SECOND
from harness.records.schema import Trial, Workflow
from harness.store.run_directory import RUN_FILE, Records, read_run, write_whole
from tests.analysis.builders import make_call, make_run, make_trial, make_workflow
from tests.cli.test_report import save

FAST, SLOW = "async_8_none_attempt", "async_2_none_attempt"


def run_of(
    folder: Path, name: str, makespans: dict[str, list[float]], workflows: int = 4,
    failed: int = 0, failed_in: dict[str, int] | None = None, **fields: Any,
) -> str:  # fmt: skip
    """Save a run whose trials took so long.

    `failed` workflows in each repeat of each cell; `failed_in` says otherwise of some cells.
    """
    trials: list[Trial] = []
    ended: list[Workflow] = []
    calls = []
    for cell, seconds in makespans.items():
        lost = (failed_in or {}).get(cell, failed)
        for repeat, makespan in enumerate(seconds):
            end = round(makespan * SECOND)
            trials.append(make_trial(cell=cell, repeat=repeat, end=end))
            for number in range(workflows):
                key = {"cell": cell, "repeat": repeat, "workflow": number}
                outcome = "failed" if number < lost else "ok"
                ended.append(make_workflow(**key, outcome=outcome, done=end))
                calls.append(make_call(**key))
    repeats = max(map(len, makespans.values()))
    the_run = make_run(makespans, repeats, **fields)
    directory = folder / name
    directory.mkdir()
    save(Records(the_run, [], calls, ended, trials, None), directory)
    return str(directory)


BASE = {FAST: [10.0, 10.2, 9.9], SLOW: [20.0, 20.5, 19.8]}
PRICE = {"input": 2.0, "cached": 1.0, "output": 10.0, "source": "made up"}
SLOWER = {FAST: [12.1, 12.4, 12.0], SLOW: [20.1, 20.4, 19.9]}


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if not line.startswith(("base ", "new "))]
    assert all(len(line) <= 80 for line in lines), captured.out
    return captured.out, captured.err


def test_a_regression_in_one_cell_is_found_named_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", SLOWER)
    assert main(["compare", base, new, "--fail-on", "makespan>+10%"]) == 1
    out, _ = said(capsys)
    assert "makespan, s (paired t over 3 repeats)" in out
    flat = " ".join(out.split())
    assert "Regression: makespan +21.3% in async_8_none_attempt, against --fail-on" in flat
    assert "async_2_none_attempt" not in flat.split("Regression:")[1]
    row = next(line for line in out.splitlines() if line.startswith("async    8 none"))
    assert row.split()[-1] == "worse"


def test_what_stays_within_the_rule_exits_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", SLOWER)
    rules = ["--fail-on", "makespan>+30%", "--fail-on", "success_rate<-1%"]
    assert main(["compare", base, new, *rules]) == 0
    assert main(["compare", new, base, "--fail-on", "makespan>+10%"]) == 0
    assert "better" in said(capsys)[0]


def test_a_change_that_chance_could_make_fails_nothing_but_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", {FAST: [10, 14, 8]})
    new = run_of(tmp_path, "new", {FAST: [16, 9, 13]})
    assert main(["compare", base, new, "--fail-on", "makespan>+10%"]) == 0
    assert "but can be due to chance: makespan" in " ".join(said(capsys)[0].split())


def test_lost_workflows_are_a_regression_in_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE, workflows=8)
    new = run_of(tmp_path, "new", BASE, workflows=8, failed=4)
    assert main(["compare", base, new, "--fail-on", "success_rate<-5%"]) == 1
    assert "success_rate -50.0 pt" in said(capsys)[0]


def test_goodput_that_fell_to_nothing_in_one_cell_of_two_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE)
    new = run_of(tmp_path, "new", BASE, failed_in={FAST: 4})
    assert main(["compare", base, new, "--fail-on", "goodput<-10%"]) == 1
    flat = " ".join(said(capsys)[0].split())
    assert "Regression: goodput -100.0% in async_8_none_attempt" in flat


def test_small_rates_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = run_of(tmp_path, "base", {FAST: [117_000, 117_000]})
    new = run_of(tmp_path, "new", {FAST: [129_000, 129_000]})
    assert main(["compare", base, new, "--fail-on", "goodput<-50%"]) == 0
    assert "0.0000342 0.0000310" in said(capsys)[0]


def test_a_quantity_that_one_run_lacks_is_said_and_not_taken_for_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE, price=PRICE)
    new = run_of(tmp_path, "new", BASE, failed_in={FAST: 4}, price=PRICE)
    assert main(["compare", base, new]) == 0
    flat = " ".join(said(capsys)[0].split())
    lacking = "no cost_per_successful_workflow in the second run, so it is not compared:"
    assert f"Warning: {lacking} async_8_none_attempt." in flat
    assert flat.count("so it is not compared") == 1


def test_json_holds_every_quantity_with_its_interval_and_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", SLOWER)
    assert main(["compare", base, new, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["paired"]
    changes = told["cells"][1]["changes"]
    assert changes["makespan"]["change"]["value"] == pytest.approx(0.2125, abs=0.001)
    assert changes["makespan"]["verdict"] == "worse"
    assert changes["makespan"]["adjusted_p"] >= changes["makespan"]["p"]
    assert {"throughput", "goodput", "success_rate"} <= changes.keys()


def test_runs_of_another_seed_are_not_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE)
    new = run_of(tmp_path, "new", SLOWER, seed=8)
    assert main(["compare", base, new]) == 0
    assert "Welch's t over 3 and 3 repeats" in said(capsys)[0]


def test_a_change_that_the_ranks_do_not_bear_out_fails_nothing_and_the_key_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", {FAST: [9.7, 10.7, 9.6, 9.5, 9.2]})
    new = run_of(tmp_path, "new", {FAST: [10.4, 10.7, 10.6, 11.9, 10.4]}, seed=8)
    assert main(["compare", base, new, "--fail-on", "makespan>+5%"]) == 0
    told = said(capsys)[0]
    assert "Welch's t and ranks over 5 and 5 repeats" in told
    assert f" {NO_CLEAR_CHANGE}" in told
    assert "or the ranks of the repeats do not confirm a small p" in " ".join(told.split())
    assert "but can be due to chance: makespan" in " ".join(told.split())
    assert main(["compare", base, new, "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["changes"]["makespan"]["mann_whitney_p"] == pytest.approx(18 / 252)


def test_durations_are_compared_in_scenario_seconds_and_the_scale_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE)
    halved = {cell: [value / 2 for value in values] for cell, values in BASE.items()}
    new = run_of(tmp_path, "new", halved, time_scale=0.5)
    assert main(["compare", base, new, "--fail-on", "makespan>+1%"]) == 0
    assert "time scales differ (1 and 0.5)" in said(capsys)[0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"branches": 3}, "different workload: workflow.sub_questions is 2 in the first and 3"),
        ({"in_flight": 2}, "different workload: load.in_flight is 1 in the first and 2"),
        ({"simulated": False}, "one run is simulated and the other live"),
    ],
)
def test_unlike_runs_are_refused_by_name(
    fields: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE)
    new = run_of(tmp_path, "new", SLOWER, **fields)
    assert main(["compare", base, new]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert why in line


def test_runs_without_a_common_cell_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", {FAST: [1.0]})
    new = run_of(tmp_path, "new", {SLOW: [1.0]})
    assert main(["compare", base, new]) == 2
    assert "no setting in common" in said(capsys)[1]


def test_another_schema_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", BASE)
    later = msgspec.structs.replace(read_run(Path(new)), schema=99)
    write_whole(Path(new) / RUN_FILE, later)
    assert main(["compare", base, new]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert "schema 99" in line


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("makespan", "not a rule; write it like"),
        ("makespan>10", "a limit is in percent: write 'makespan>+10%'"),
        ("success_rate<-0.01", "a limit is in percent: write 'success_rate<-1%'"),
        ("makespam>+10%", "makespam is not compared (did you mean 'makespan'?)"),
        ("workflow_p95>+10%", "no setting of the two runs has workflow_p95"),
    ],
)
def test_a_rule_that_could_never_fail_is_refused(
    rule: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", BASE)
    assert main(["compare", base, new, "--fail-on", rule]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert line.startswith(f"harness: --fail-on {rule}: ")
    assert why in line


def test_settings_that_differ_and_cells_of_one_run_alone_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_of(tmp_path, "base", BASE)
    new = run_of(
        tmp_path, "new", {FAST: SLOWER[FAST]}, extra_toml='[timeouts]\ncall = "30s"',
        status="partial", versions={"harness": "0.2.0"},
    )  # fmt: skip
    assert main(["compare", base, new]) == 0
    flat = " ".join(said(capsys)[0].split())
    assert "1 setting only in base: async_2_none_attempt" in flat
    assert "timeouts.call differs: 600.0 and 30.0" in flat
    assert "the second run is partial" in flat
    assert "versions.harness differs: 0.1.0 and 0.2.0" in flat


def test_runs_with_different_clients_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", BASE)
    file = Path(new) / RUN_FILE
    run = read_run(Path(new))

    def said_of_client(endpoint: dict[str, Any]) -> str:
        changed = {**run.scenario, "endpoint": endpoint}
        write_whole(file, msgspec.structs.replace(run, scenario=changed))
        assert main(["compare", base, new]) == 0
        return " ".join(said(capsys)[0].split()).partition("Warning: endpoint.client")[2]

    endpoint = run.scenario["endpoint"]
    assert said_of_client({**endpoint, "client": "wire"}) == (
        " differs: openai and wire; all times include what the client takes."
    )
    earlier = {key: value for key, value in endpoint.items() if key != "client"}
    assert len(earlier) < len(endpoint)
    assert said_of_client(earlier) == "", "runs of earlier versions used the openai package"


def test_runs_with_different_numbers_of_processes_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", BASE)
    assert main(["compare", base, new]) == 0
    assert "processes" not in said(capsys)[0]
    run = msgspec.structs.replace(read_run(Path(new)), processes=4)
    write_whole(Path(new) / RUN_FILE, run)
    assert main(["compare", base, new]) == 0
    flat = " ".join(said(capsys)[0].split())
    assert "Warning: processes differ: 1 and 4 run each trial; all times include what" in flat


def test_a_directory_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert "contains no run.json" in line


def test_the_verdict_comes_first_and_then_what_could_have_been_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", SLOWER)
    assert main(["compare", base, new]) == 0
    lines = said(capsys)[0].splitlines()
    assert lines[0] == "synthetic: 2 settings in both runs"
    head = " ".join(" ".join(lines[1:]).split("base ")[0].split())
    assert head.startswith("Worse: makespan +21.3% in async_8_none_attempt. This comparison")
    assert (
        "finds the following changes with a probability of 80 %: makespan +2.7% or more in the "
        "most exact setting, +6.7% or more in the least exact one; "
    ) in head
    assert main(["compare", base, new, "--fail-on", "makespan>+10%"]) == 1
    lines = said(capsys)[0].splitlines()
    assert lines[1].startswith("Regression: makespan +21.3% in async_8_none_attempt")
    flat = " ".join(" ".join(lines).split())
    assert "'makespan>+10%': a change of +10.0% would have been found with" in flat


def test_a_significant_change_is_the_verdict_of_a_comparison_without_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8]
    base = run_of(tmp_path, "base", {FAST: steady, SLOW: steady})
    new = run_of(
        tmp_path, "new",
        {FAST: [2 * one + 0.001 * at for at, one in enumerate(steady)], SLOW: steady},
    )  # fmt: skip
    assert main(["compare", base, new]) == 0
    head = " ".join(" ".join(said(capsys)[0].splitlines()[1:3]).split())
    assert head.startswith("Worse: makespan +100.0% in async_8_none_attempt. ")


def test_what_is_worse_without_a_rule_is_said_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8]
    base = run_of(tmp_path, "base", {FAST: steady, SLOW: steady})
    slower = [2 * one + 0.001 * at for at, one in enumerate(steady)]
    new = run_of(tmp_path, "new", {FAST: slower, SLOW: steady})
    assert main(["compare", base, new, "--fail-on", "success_rate<-1%"]) == 0
    flat = " ".join(said(capsys)[0].split())
    assert "No rule for what is worse: makespan +100.0% in async_8_none_attempt. " in flat
    assert main(["compare", base, new, "--fail-on", "makespan>+500%"]) == 0
    assert "No rule for what is worse: makespan" not in said(capsys)[0]


NOISY = {FAST: [10.0, 14.0, 8.0, 12.0], SLOW: [20.0, 26.0, 17.0, 23.0]}


@pytest.mark.parametrize(
    ("rule", "power", "code"),
    [
        ("makespan>+10%", "0.8", 1),
        ("makespan>+900%", "0.8", 0),
        ("makespan>+10%", "0.01", 0),
        ("success_rate<-5%", "0.8", 1),
    ],
)
def test_a_rule_whose_change_would_hardly_have_been_found_fails_if_power_is_required(
    rule: str, power: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = (run_of(tmp_path, name, NOISY, seed=seed) for name, seed in (("a", 7), ("b", 8)))
    assert main(["compare", base, new, "--fail-on", rule]) == 0
    said(capsys)
    assert main(["compare", base, new, "--fail-on", rule, "--require-power", power]) == code
    out = said(capsys)[0]
    assert (f"Too little power: '{rule}' has" in out) == bool(code)
    assert main(["compare", base, new, "--fail-on", rule, "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)["rules"]
    assert [one["result"] for one in rules] == ["kept", "kept"]
    assert all((one["power"] < float(power)) == bool(code) for one in rules)


def test_the_same_run_has_power_for_every_change_of_its_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", NOISY), run_of(tmp_path, "new", NOISY)
    rule = ["--fail-on", "makespan>+1%", "--require-power", "0.99"]
    assert main(["compare", base, new, *rule]) == 0
    assert "with 80 %: any." in " ".join(said(capsys)[0].split())


def test_a_share_that_cannot_change_so_much_needs_no_power(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = (run_of(tmp_path, name, BASE, failed=4) for name in ("a", "b"))
    rule = ["--fail-on", "success_rate<-5%", "--require-power", "0.8"]
    assert main(["compare", base, new, *rule]) == 0
    assert "no setting can change by -5.0 pt" in said(capsys)[0]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([], "no --fail-on RULE names the change to be found"),
        (["--fail-on", "makespan>0%"], "makespan>0% names no change; give a limit other than 0"),
    ],
)
def test_a_power_of_no_change_cannot_be_required(
    rules: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", BASE)
    assert main(["compare", base, new, *rules, "--require-power", "0.8"]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert why in line


@pytest.mark.parametrize("power", ["80", "0", "1", "much"])
def test_a_power_is_between_0_and_1(power: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b", "--require-power", power]) == 2
    (line,) = said(capsys)[1].splitlines()
    wanted = "give a share between 0 and 1, such as 0.8 for 80 %"
    assert line == f"harness: --require-power {power}: {wanted}"


@pytest.mark.parametrize("apart", [0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0])
def test_the_verdict_of_a_rule_the_table_and_the_exit_code_are_one_decision(
    apart: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Among all quantities of all cells the change of a metric can be due to chance; among the
    metrics of the rules it may not be. Both views have the p of the rules."""
    steady = [10.0, 10.4, 9.8, 10.1]
    changed = [value + apart + 0.2 * at for at, value in enumerate(steady)]
    base = run_of(tmp_path, "base", {FAST: steady, SLOW: [20.0, 20.3, 19.7, 20.2]})
    new = run_of(tmp_path, "new", {FAST: changed, SLOW: [20.1, 20.0, 20.2, 19.9]})
    code = main(["compare", base, new, "--fail-on", "makespan>+1%"])
    out = said(capsys)[0]
    row = next(line for line in out.splitlines() if line.startswith("async    8 none"))
    assert ("Regression: makespan" in out) == row.endswith("worse") == (code == 1)
    assert ("can be due to chance: makespan" in " ".join(out.split())) == row.endswith(
        NO_CLEAR_CHANGE
    )
    assert "over the metrics of --fail-on in all settings" in " ".join(out.split())
    assert main(["compare", base, new, "--fail-on", "makespan>+1%", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    for rule in told["rules"]:
        (cell,) = (one for one in told["cells"] if one["cell"] == rule["cell"])
        change = cell["changes"]["makespan"]
        assert change["adjusted_p"] == rule["adjusted_p"]
        assert (rule["result"] == "broken") <= (change["verdict"] == "worse")
        assert (rule["result"] == "can be due to chance") <= (change["verdict"] != "worse")


def test_a_rule_with_little_power_says_how_many_repeats_have_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = (run_of(tmp_path, name, NOISY, seed=seed) for name, seed in (("a", 7), ("b", 8)))
    rule = ["--fail-on", "makespan>+20%"]
    main(["compare", base, new, *rule, "--json"])
    most = max(one["repeats"] for one in json.loads(capsys.readouterr().out)["rules"])
    main(["compare", base, new, *rule])
    flat = " ".join(said(capsys)[0].split())
    assert f"run both again with about {most} repeats: --set sweep.repeats={most}." in flat
    main(["compare", base, new, "--fail-on", "makespan>+0.1%"])
    assert "1,000 repeats are too few; give a larger limit." in " ".join(said(capsys)[0].split())
    one, other = (run_of(tmp_path, name, {FAST: [10.0], SLOW: [20.0]}) for name in ("c", "d"))
    main(["compare", one, other, *rule])
    assert "each with --set sweep.repeats=5." in " ".join(said(capsys)[0].split())
    main(["compare", base, new, "--fail-on", "makespan>+900%"])
    assert "run both again" not in said(capsys)[0]


def test_the_same_run_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = run_of(tmp_path, "base", BASE)
    assert main(["compare", base, f"{base}/"]) == 2
    (line,) = said(capsys)[1].splitlines()
    assert line.endswith(
        "are the same run, so nothing can differ; give the directories of two runs"
    )


@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("apart", [0.3, 0.9, 1.6])
@pytest.mark.parametrize("failed", [0, 3, 5])
def test_an_interval_excludes_0_exactly_where_a_change_is_called(
    seed: int, apart: float, failed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = [10.0, 10.4, 9.8, 10.1, 10.2]
    changed = [value + apart + 0.2 * at for at, value in enumerate(steady)]
    base = run_of(tmp_path, "base", {FAST: steady, SLOW: steady}, workflows=8)
    new = run_of(
        tmp_path, "new", {FAST: changed, SLOW: steady[::-1]}, workflows=8, seed=seed,
        failed_in={FAST: failed},
    )  # fmt: skip
    for rule in ([], ["--fail-on", "success_rate<-90%"]):
        main(["compare", base, new, "--json", *rule])
        for cell in json.loads(capsys.readouterr().out)["cells"]:
            for one in cell["changes"].values():
                low, high = one["change"]["low"], one["change"]["high"]
                if low is None:
                    continue
                assert low <= one["change"]["value"] <= high
                assert (low > 0 or high < 0) == (one["verdict"] in ("better", "worse")), one


def test_markdown_is_appended_with_the_verdict_first_and_every_character_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a|b <img src=x> *c*\n# d"
    base, new = run_of(tmp_path, "base", BASE), run_of(tmp_path, "new", SLOWER)
    for run in (base, new):
        named = msgspec.structs.replace(read_run(Path(run)), name=name)
        write_whole(Path(run) / RUN_FILE, named)
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    rules = ["--fail-on", "makespan>+10%", "--fail-on", "success_rate<-50%"]
    power = ["--require-power", "0.8"]
    assert main(["compare", base, new, *rules, *power, "--markdown", str(file)]) == 1
    assert "Regression: makespan" in said(capsys)[0], "the terminal has the comparison, too"
    text = file.read_text()
    assert text.startswith(
        "before\n### a\\|b &lt;img src=x&gt; \\*c\\* \\# d: regression\n\n"
        "- **Regression: makespan +21.3% in async\\_8\\_none\\_attempt, against "
    )
    row = next(line for line in text.splitlines() if line.endswith("| broken |"))
    assert row.startswith("| makespan&gt;+10% | async\\_8\\_none\\_attempt | +21.3% | +")
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {6}
    assert main(["compare", new, base, "--json", "--markdown", str(file)]) == 0
    assert file.read_text().startswith(text)
    assert json.loads(capsys.readouterr().out)["cells"]
    assert main(["compare", base, new, "--markdown", str(tmp_path)]) == 4
    assert capsys.readouterr().err.endswith("cannot be written (Is a directory)\n")


@pytest.mark.parametrize("kept", ["full", "summary"])
def test_a_baseline_compares_as_its_run_and_replaces_only_a_baseline(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--set", "load.workflows=3", "--set", "sweep.repeats=2", "--set", "sweep.permits=4",
           "--quiet", "--set", f"records={kept}", "--set", "transcripts=false"]  # fmt: skip
    assert main(["run", "quickstart", "--out", "a", *few]) == 0
    assert main(["run", "quickstart", "--out", "b", *few, "--set", "seed=8"]) == 0
    (tmp_path / "kept").mkdir()
    for _ in range(2):  # the second time it is replaced
        assert main(["export", "a", "--baseline", "kept/base"]) == 0
    names = {path.name for path in (tmp_path / "kept" / "base").iterdir()}
    expected = {"attempts.jsonl", "calls.jsonl", "workflows.jsonl", "trials.jsonl"}
    assert names == {"run.json"} | (expected if kept == "full" else {"trials"})
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["base"]
    capsys.readouterr()
    told = []
    for base in ("a", "kept/base"):
        assert main(["compare", base, "b", "--json"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    for taken in ("b", "kept", "kept/base/run.json"):
        assert main(["export", "a", "--baseline", taken]) == 2
        assert f"--baseline {taken}: " in capsys.readouterr().err
    assert main(["export", "kept/base", "--baseline", "kept/base"]) == 2
    assert "is the run itself" in capsys.readouterr().err
