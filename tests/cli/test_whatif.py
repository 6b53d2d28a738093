"""`harness whatif` from run directories to the terminal and to JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness.bench import virtual
from harness.bench.trial import INTERRUPTED
from harness.cli import whatif
from harness.cli.main import main
from harness.report.prediction_text import best_line, extrapolations
from harness.store.column_reader import read_columns
from harness.store.run_directory import Records
from harness.twin import twin_trials
from harness.twin.predict import predict
from harness.twin.prediction import PredictedCell, PredictedValue, Prediction
from tests.analysis.builders import cell_info
from tests.twin.providers import write_run

PROVIDER = {"concurrency_cap": 6}


def predict_fast(*arguments: Any, **options: Any) -> Prediction:
    """Predict with few bootstraps, as no test here is about the width of an interval."""
    return predict(*arguments, bootstraps=2, **options)


@pytest.fixture(autouse=True)
def few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatif, "predict", predict_fast)


def written(folder: Path, **settings: Any) -> str:
    folder.mkdir()
    plain = {"permits": (2, 4), "workflows": 4, "in_flight": 4, "repeats": 2, "topics": 4}
    return str(write_run(folder, PROVIDER, **{**plain, **settings}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("runs") / "run")


def changed(run: str, folder: Path, **fields: Any) -> str:
    """Copy a run with another run.json."""
    folder.mkdir()
    for file in Path(run).iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    values = json.loads((folder / "run.json").read_text()) | fields
    (folder / "run.json").write_text(json.dumps(values))
    return str(folder)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_no_line_is_wider_than_the_terminal(
    run: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    changes = ["--set", "sweep.permits=[1, 3, 5, 7, 9]", "--set", 'sweep.retry=["openai-sdk"]']
    changes += ["--set", 'sweep."timeouts.call"=["1h", "2h"]', "--set", "slo.workflow_latency='1h'"]
    changes += ["--set", "endpoint.price={input = 1, output = 2}"]
    assert main(["whatif", run, *changes]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert "known: 10 settings PREDICTED by a twin of a SIMULATED provider" in lines[0]
    text = "\n".join(lines)
    for word in (
        "in time",
        "USD a",
        "async 7 · openai-sdk · call 3600*",
        "8 settings are extrapolations (*)",
    ):
        assert word in text
    assert "harness whatif" not in text


def test_the_json_has_plain_numbers_under_the_names_of_the_prediction(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", run, "--json"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    said = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert list(said) == list(Prediction.__dataclass_fields__)
    value = said["cells"][0]["values"]["amplification"]
    assert list(value) == list(PredictedValue.__dataclass_fields__)
    assert value["freedom"] is None, "JSON has no infinity"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("bogus=1", "bogus: unknown key"),
        ("sweep.permits=[]", "sweep.permits = []: must not be empty"),
        ("sweep.permits", "must have the form KEY=VALUE"),
        ("a b=1", "'a b' is not a dotted key"),
        ("endpoint.profile=plain-chat", "the twin stands for the provider of the run"),
        ("endpoint.base_url=http://x", "the twin stands for the provider of the run"),
        ("endpoint.time=real", "the twin stands for the provider of the run"),
        ("endpoint={kind = 'simulated'}", "the twin stands for the provider of the run"),
        ("sweep.\"endpoint.model\"=['a', 'b']", "the twin stands for the provider of the run"),
        ("sweep={\"endpoint.model\" = ['a']}", "the twin stands for the provider of the run"),
        ("budget.attempts=3", "a prediction sends nothing and has no budget"),
        ("records=full", "a prediction leaves no records"),
        ("transcripts=true", "a prediction leaves no transcripts"),
        ("seed=3", "a prediction draws by --seed"),
        ("sweep.repeats=9", "a mean over as many repeats as it needs"),
        ("sweep={repeats = 9}", "a mean over as many repeats as it needs"),
        ("endpoint.override.bogus=2", "endpoint.override.bogus: unknown key"),
        ("workflow.kind=agent", "--set workflow.kind=agent: workflow.sub_questions: unknown key"),
        ("workflow={kind = 'agent'}", "--set workflow.topics: missing"),
        ("workflow={kind = 'agent', topics = ['a']}", "no answer of phase step was recorded"),
        ("retry.patient.kind=none", "--set retry.patient.kind=none: retry.patient."),
    ],
)
def test_a_change_that_a_prediction_cannot_have_is_one_line(
    run: str, change: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", run, "--set", change]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"harness: {run}: ")
    assert text in error
    assert error.count("\n") == 1


def test_a_check_names_bias_and_coverage_and_what_it_does_not_show(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provider = Path(run) / "provider.toml"
    other = written(tmp_path / "other", seed=8, permits=(3,), profile=provider)
    assert main(["whatif", run, "--check", other]) == 0
    out = capsys.readouterr().out
    said = " ".join(out.split())
    assert "The prediction of the scenario known is good: over 1 setting that the fitted" in said
    assert "the interval of the makespan holds 1 of 1 measured value." in said
    assert "The prediction had the lengths of the answers in that run" in said
    assert "bias: the mean of the errors" in out
    assert "No permit count" not in out, "one setting is not worse than others"
    assert "Note" not in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert main(["whatif", run, "--check", run]) == 0
    assert "the twin was fitted to run known itself" in capsys.readouterr().out
    same_seed = written(tmp_path / "same", permits=(3,), profile=provider)
    assert main(["whatif", run, "--check", same_seed]) == 0
    assert "both runs drew with seed 1 at a simulated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("model", "b", "ran at {profile} with b, and {run} at {profile} with simulated-reasoner; "),
        ("override", {"concurrency_cap": 3}, "its override of the profile is not that of {run}; "),
    ],
)
def test_a_check_at_another_provider_says_why_and_the_way_out(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, why: str
) -> None:
    scenario = json.loads((Path(run) / "run.json").read_text())["scenario"]
    profile = scenario["endpoint"]["profile"]
    scenario["endpoint"] |= {key: value}
    other = changed(run, tmp_path / "other", scenario=scenario, run_id="another")
    assert main(["whatif", run, "--check", other]) == 2
    reason = why.format(profile=profile, run=run)
    assert capsys.readouterr().err == (
        f"harness: {other}: {reason}a twin predicts only the provider and model that it is "
        "fitted to, so give --check a run there, or fit and check runs at "
        f"that of {other}\n"
    )


def test_a_check_takes_no_changes(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", run, "--set", "sweep.permits=[3]", "--check", run]) == 2
    assert "leave out one of the two" in capsys.readouterr().err


def test_a_run_that_is_given_twice_is_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("whatif", "fit"):
        assert main([command, run, run]) == 2
        assert capsys.readouterr().err == f"harness: {run}: given twice; give each run once\n"


def test_ctrl_c_ends_a_prediction_also_in_a_bootstrap(
    run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, played = virtual.play, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        played.append(real(*arguments, **options))
        late = len(played) > bootstraps_begin
        return played[-1]._replace(stopped=INTERRUPTED) if late else played[-1]

    monkeypatch.setattr(twin_trials, "play", interrupted)
    for bootstraps_begin in (3, 130):
        played.clear()
        assert main(["whatif", run]) == 130
        assert len(played) == bootstraps_begin + 1
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "harness: interrupted\n")


def test_a_changed_price_and_that_of_the_run_are_taken(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cost(*arguments: str) -> float:
        assert main(["whatif", *arguments, "--json"]) == 0
        values = json.loads(capsys.readouterr().out)["cells"][0]["values"]
        return float(values["cost_per_successful_workflow"]["value"])

    price = {"input": 1.0, "cached": 1.0, "output": 2.0, "source": "a list"}
    priced = changed(run, tmp_path / "priced", price=price)
    plain = cost(priced)
    assert cost(run, "--set", "endpoint.price={input = 1, output = 2}") == pytest.approx(plain)
    doubled = ["--set", "endpoint.price.input=2", "--set", "endpoint.price.output=4"]
    assert cost(priced, *doubled) == pytest.approx(2 * plain)
    peak = {"factor": 3.0, "days": ["thu"], "hours": [[0, 24]]}
    anchor = json.loads((Path(run) / "run.json").read_text())["anchor"] | {"unix_ns": 0}
    always = changed(run, tmp_path / "peak", price=price | {"peak": peak}, anchor=anchor)
    assert cost(always) == pytest.approx(3 * plain), "1970 began on a Thursday"
    free = ["--set", "endpoint.price={input = 0, output = 0}"]
    assert cost(priced, *free) == 0
    minimised = ["--set", "objective.minimise=cost_per_successful_workflow"]
    assert cost(priced, *minimised) == pytest.approx(plain)


def test_repeats_that_were_stopped_are_compared_with_the_same_work(tmp_path: Path) -> None:
    records = read_columns(Path(written(tmp_path / "run", topics=1, workflows=1)))
    whole = predict([records], of=records, bootstraps=1)
    first = _first_repeat(records, whole.cells[1].info.id)
    part = predict([records], of=first, bootstraps=1)
    one, other = (each.cells[1].values["makespan"] for each in (whole, part))
    assert one.measured is not None
    assert other.measured is not None
    assert abs(one.measured / other.measured - 1) > 0.02, "the repeats have other lengths"
    assert other.value / other.measured == pytest.approx(1, abs=0.02)
    assert part.errors["makespan"] == whole.errors["makespan"]


def _first_repeat(records: Records, cell: str) -> Records:
    """Return a run of which a cell has only its first trial."""
    trials = [one for one in records.trials if one.cell != cell or one.repeat == 0]
    return records._replace(trials=trials)


def test_each_repeat_is_played_twice_so_that_chance_is_known(tmp_path: Path) -> None:
    records = read_columns(Path(written(tmp_path / "run", permits=(2,), repeats=70, workflows=1)))
    found = predict([records], bootstraps=1)
    assert found.repeats == 140
    assert found.cells[0].values["makespan"].trial_variance > 0


def test_of_a_long_run_the_first_repeats_are_played_in_fewer_bootstraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_columns(Path(written(tmp_path / "run", repeats=6, workflows=1)))
    whole = predict([records], bootstraps=30).cells[0].values["makespan"]
    monkeypatch.setattr("harness.twin.predict._SOURCE_CALLS", len(records.calls) // 3)
    monkeypatch.setattr("harness.twin.predict._BOOTSTRAP_CALLS", 1)
    found = predict([records], bootstraps=30)
    first = found.cells[0].values["makespan"]
    assert (found.repeats, found.bootstraps) == (60, 10)
    cell = found.cells[0].info.id
    spans = [(one.end - one.start) / 1e9 for one in records.trials if one.cell == cell]
    assert whole.measured == pytest.approx(sum(spans) / 6)
    assert first.measured == pytest.approx(sum(spans[:2]) / 2)
    assert first.value == pytest.approx(first.measured, rel=0.03)


def value(middle: float, low: float, high: float) -> PredictedValue:
    return PredictedValue(middle, low, high, None, 0.0, 0.0, 0.0, None)


def prediction(makespans: dict[str, float], kept: float = 1.0, **settings: Any) -> Prediction:
    """Return a prediction of settings that keep the same share, with makespans 1 s either way."""
    cells = tuple(
        PredictedCell(
            cell_info(f"{name.replace('-', '_')}_attempt"),
            {"makespan": value(at, at - 1, at + 1), "success_rate": value(kept, kept, kept)}, "",
        )
        for name, at in makespans.items()
    )  # fmt: skip
    plain = Prediction("s", False, 1, cells, {}, 1, 1, (), (), None, 0.05, "makespan", (), ("s",))
    return dataclasses.replace(plain, **settings)


def best(found: Prediction) -> str:
    return best_line(found, short(found)).replace("\u00a0", " ")


def short(found: Prediction) -> dict[str, str]:
    return {one.info.id: f"async-{one.info.permits}-none" for one in found.cells}


def test_the_best_setting_names_a_few_of_those_that_are_not_told_apart() -> None:
    names = [f"async-{n}-none" for n in range(1, 8)]
    alone = prediction({names[0]: 9, names[1]: 20})
    assert best(alone) == "async-1-none has the lowest predicted makespan: 9.00 (8.00 to 10.0) s."
    near = best(prediction({names[0]: 9, names[1]: 9.5}))
    assert near.endswith("s; its interval overlaps that of async-2-none.")
    two = best(prediction({names[1]: 8.95, names[0]: 9}))
    assert two == (
        "async-1-none is within 2 % of the lowest predicted makespan, with the "
        "fewest calls at once: 9.00 (8.00 to 10.0) s; as good: async-2-none."
    )
    five = best(prediction(dict.fromkeys(names[:5], 9)))
    assert five.endswith("async-2-none, async-3-none, async-4-none and async-5-none.")
    seven = best(prediction(dict.fromkeys(names, 9)))
    assert seven.endswith("async-2-none, async-3-none, async-4-none and 3 more.")


def test_the_best_setting_keeps_enough_workflows_in_time() -> None:
    found = prediction({"async-1-none": 9, "async-2-none": 5}, required=0.9)
    slow, fast = found.cells
    late = dataclasses.replace(fast, values={**fast.values, "in_time_rate": value(0.5, 0.4, 0.6)})
    told = best(dataclasses.replace(found, cells=(slow, late)))
    assert told.startswith("async-1-none has the lowest predicted makespan: 9.00 (8.00 to 10.0)")
    assert told.endswith("Of the 2 settings, 1 loses too many workflows (x) and is left out.")
    loses = {**fast.values, "success_rate": value(0.9, 0.9, 0.9)}
    both = dataclasses.replace(found, cells=(slow, dataclasses.replace(fast, values=loses)))
    assert "async-2-none" in best(dataclasses.replace(both, required=None, success_margin=0.2))
    assert "async-1-none" in best(dataclasses.replace(both, required=None, success_margin=0.05))


def test_no_setting_keeps_enough_workflows() -> None:
    assert best(prediction({"async-1-none": 9}, kept=0.0)) == (
        "No setting is predicted to keep a workflow."
    )
    assert best(prediction({"async-1-none": 9}, kept=0.9, required=0.99)) == (
        "No setting is predicted to keep the 99 % of the workflows that "
        "slo.success_rate asks for; async-1-none keeps the most, 90.0 %."
    )


def test_an_extrapolation_is_not_the_answer_but_named_apart() -> None:
    found = prediction({"async-1-none": 9, "async-2-none": 5, "async-3-none": 20})
    far = tuple(dataclasses.replace(one, beyond="far") for one in found.cells[1:])
    one = dataclasses.replace(found, cells=(found.cells[0], far[0]))
    assert best(one) == (
        "async-1-none has the lowest predicted makespan: 9.00 (8.00 to 10.0) s. Beyond what was "
        "measured, async-2-none would have 5.00 (4.00 to 6.00), if nothing changes there."
    )
    risk = "far; a limit or a slowdown that begins there is not in the prediction"
    assert list(extrapolations(one, short(one))) == [
        f"async-2-none is an extrapolation (*): {risk}"
    ]
    two = dataclasses.replace(found, cells=(found.cells[0], *far))
    assert list(extrapolations(two, short(two))) == [
        f"2 settings are extrapolations (*), for example async-2-none: {risk}"
    ]
    alone = dataclasses.replace(found, cells=(far[0],))
    assert best(alone).endswith(
        "5.00 (4.00 to 6.00) s; it is an extrapolation, as all of them are."
    )


def test_a_program_that_fails_is_named_and_a_time_of_0_has_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nimport harness\n\n\n@harness.workflow\nasync def program(ask, topic):\n"
        "    if 'BREAK' in os.environ:\n        raise KeyError(topic)\n"
        "    return (await ask('answer', topic)).text\n"
    )
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[workflow]\nprogram = "mine.py:program"\ntopics = ["a", "b"]\n'
        'calls = { answer = 1 }\n[endpoint]\nkind = "simulated"\ntime = "virtual"\n'
        "[load]\nworkflows = 2\n[sweep]\npermits = [1, 2]\nrepeats = 2\n"
    )
    runs = {}
    for name in ("works", "breaks"):
        runs[name] = str(tmp_path / name)
        assert main(["run", str(tmp_path / "own.toml"), "--out", runs[name], "--quiet"]) in (0, 1)
        monkeypatch.setenv("BREAK", "1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    capsys.readouterr()
    assert main(["whatif", runs["works"]]) == 0
    out = capsys.readouterr().out
    assert "No setting is predicted to keep a workflow." in out
    assert "100.0% of the predicted workflows end with an error of the program" in out
    assert "KeyError: 'a'" in out
    row = next(line for line in out.splitlines() if line.startswith("async 2 "))
    assert row.split()[:6] == ["async", "2", "x", "0", "0", "%"], "no interval of a time of 0"
    assert main(["whatif", runs["works"], "--check", runs["breaks"]]) == 0
    out = capsys.readouterr().out
    assert "success rate" in out
    assert "workflow latency" not in out, "there is no error relative to 0"
    monkeypatch.delenv("BREAK")
    assert main(["whatif", runs["works"]]) == 0
    assert "lowest predicted makespan" in " ".join(capsys.readouterr().out.split())
