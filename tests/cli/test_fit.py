"""`harness fit` from run directories to a profile that is used like any other."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cli.main import main
from harness.simulator.profiles import load_profile
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_run, make_workflow
from tests.cli.test_report import save
from tests.report.html.reading import read
from tests.twin.providers import write_run
from tests.twin.test_parts import attempt

GPU = Path(__file__).parents[1] / "golden" / "gpu-low"
FAULTS = [
    {"kind": "server_error", "probability": 0.1},
    {"kind": "connect_failed", "burst": {"on": "3s", "off": "60s"}},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    provider = {
        "concurrency_cap": 8, "retry_after": "2s", "itl_b": "1ms", "faults": FAULTS,
        "phases": {"synthesize": {"answer_tokens": {"median": 300}}},
    }  # fmt: skip
    return write_run(folder, provider, permits=(4, 16), workflows=30)


def test_a_fit_writes_a_profile_with_its_evidence_and_says_what_it_does_not_know(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "twin.toml"
    assert main(["fit", str(run), "-o", str(file)]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.replace(f"{tmp_path}/", "").splitlines()), out
    assert "concurrency cap       8\n" in out
    assert "- requests_per_minute, tokens_per_minute: none was met" in out
    assert "not fitted: background load" in out
    text = file.read_text()
    assert "# concurrency cap: " in text
    assert "#   cannot tell: requests_per_minute" in text
    profile = load_profile(str(file))
    assert (profile.name, profile.concurrency_cap, profile.retry_after) == ("twin", 8, 2.0)
    assert "known (" in profile.source
    assert profile.phases.keys() == {"decompose", "research", "synthesize"}
    assert [fault.kind for fault in profile.faults] == ["server_error", "connect_failed"]


def test_a_page_with_the_curves_is_beside_the_profile(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "twin.toml", tmp_path / "twin.html"
    assert main(["fit", str(run), "-o", str(file)]) == 0
    assert f"\nCurves and measured points: {page}\nNext: " in capsys.readouterr().out
    document = read(page.read_text())
    assert document.one("h1").text == "twin"
    assert "SIMULATED" in document.one("header").text
    assert main(["fit", str(run), "-o", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(page)


def test_a_page_that_fails_costs_one_line_and_no_profile(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, page = tmp_path / "twin.toml", tmp_path / "twin.html"
    page.mkdir()
    assert main(["fit", str(run), "-o", str(file)]) == 0
    out, error = capsys.readouterr()
    assert error.startswith(f"harness: {page} could not be made ({page}: cannot be written")
    assert error.endswith("; the profile is written\n")
    assert error.count("\n") == 1
    assert "twin.html" not in out
    monkeypatch.setattr("harness.cli.fit.fitted_curves", lambda *_, **__: 1 / 0)
    file.unlink()
    assert main(["fit", str(run), "-o", str(file), "--json"]) == 0
    out, error = capsys.readouterr()
    assert "ZeroDivisionError" in error
    assert error.count("\n") == 1
    assert json.loads(out)["page"] is None
    assert load_profile(str(file)).concurrency_cap == 8


def test_the_profile_runs_in_a_scenario_by_a_path_relative_to_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    assert main(["fit", str(run), "-o", str(folder / "twin.toml")]) == 0
    (folder / "mine.toml").write_text(
        'name = "mine"\n[workflow]\ntopics = ["tides"]\nsub_questions = 2\n'
        '[endpoint]\nkind = "simulated"\nprofile = "twin.toml"\ntime = "virtual"\n'
        '[load]\nworkflows = 2\n[sweep]\nmode = ["async"]\npermits = [4]\n'
    )
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["run", str(folder / "mine.toml"), "--out", str(out), "--quiet"]) in (0, 1)
    assert json.loads((out / "run.json").read_text())["profile"]["concurrency_cap"] == 8


def test_a_fit_of_a_fit_finds_it_again(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    assert main(["fit", str(run), "-o", str(first)]) == 0
    again = tmp_path / "again"
    again.mkdir()
    write_run(again, {}, permits=(4, 16), workflows=30, profile=first)
    assert main(["fit", str(again), "-o", str(second)]) == 0
    one, other = load_profile(str(first)), load_profile(str(second))
    assert other.concurrency_cap == one.concurrency_cap == 8
    last = [profile.itl_points[-1] for profile in (one, other)]
    assert last[1].itl == pytest.approx(last[0].itl, rel=0.02)


def test_the_records_of_a_real_server_of_schema_1_are_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gpu"
    shutil.copytree(GPU, folder)
    for packed in folder.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    file = tmp_path / "gpu.toml"
    assert main(["fit", str(folder), "-o", str(file)]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.replace(f"{tmp_path}/", "").splitlines()), out
    assert main(["fit", str(folder), "-o", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["profile"] == str(file)
    assert said["parts"][0]["name"] == "pace"
    profile = load_profile(str(file))
    points = {point.requests: point.itl for point in profile.itl_points}
    assert points[1] == pytest.approx(0.0035, rel=0.05)
    assert points[1] < points[8] < 0.0045
    assert 0.01 < profile.ttft.median < 0.03
    assert profile.phases.keys() == {"decompose", "research", "synthesize"}
    assert profile.concurrency_cap is None


def test_a_long_name_is_apart_from_its_value_and_no_number_has_an_exponent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = [attempt(10.0 * n) for n in range(4)]
    attempts.append(attempt(50, outcome="insufficient_system_resource"))
    save(Records(make_run(), attempts, [], [make_workflow()], [], None), tmp_path)
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "twin.toml")]) == 0
    out = capsys.readouterr().out
    assert f"\nfault insufficient_system_resource\n{' ' * 22}20 %\n" in out
    assert "median error <0.001 %" in out


def test_what_cannot_be_fitted_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = make_attempt(outcome="unavailable", status=503, first_reasoning=None,
                          first_answer=None, last_token=None, chunks=0)  # fmt: skip
    for name, attempts in (("empty", []), ("failed", [failed])):
        folder = tmp_path / name
        folder.mkdir()
        save(Records(make_run(), attempts, [], [make_workflow()], [], None), folder)
        assert main(["fit", str(folder), "-o", str(tmp_path / "no.toml")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"harness: {folder}: no successful attempt with output tokens")
        assert error.count("\n") == 1
    assert not (tmp_path / "no.toml").exists()
    assert main(["fit", str(tmp_path)]) == 2
    assert "contains no run.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model": "b"}, "ran at https://x with b, and {} at https://x with a; give runs"),
        ({"base_url": "https://y"}, "ran at https://y with a, and {} at https://x with a"),
        ({"override": {"slots": 2}}, "its override of the profile is not that of {}; give runs"),
        ({"base_url": None, "model": None}, "ran at an unknown server, and {} at https://x with a"),
    ],
)
def test_runs_of_different_providers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], text: str
) -> None:
    plain = {"base_url": "https://x", "model": "a"}
    for name, endpoint in (("one", plain), ("other", plain | change)):
        (tmp_path / name).mkdir()
        run = make_run()
        run = msgspec.structs.replace(run, scenario=run.scenario | {"endpoint": endpoint})
        save(Records(run, [make_attempt()], [], [make_workflow()], [], None), tmp_path / name)
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert main(["fit", one, other]) == 2
    assert f"{other}: {text.format(one)}" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    for file in (tmp_path / "none" / "twin.toml", folder):
        assert main(["fit", str(run), "-o", str(file)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"harness: {file}: cannot be written")
        assert error.endswith("give a file that can be written, in a folder that exists\n")


def test_a_profile_is_named_after_its_file_as_far_as_a_name_can_be(
    run: Path, tmp_path: Path
) -> None:
    for file, name in (("my_twin 2.toml", "my-twin-2"), ("_.toml", "twin")):
        assert main(["fit", str(run), "-o", str(tmp_path / file)]) == 0
        assert load_profile(str(tmp_path / file)).name == name


@pytest.mark.parametrize("file", ["twin", ".", ""])
def test_a_name_by_which_no_profile_is_found_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    assert main(["fit", str(run), "-o", file]) == 2
    assert "give a name that ends in .toml" in capsys.readouterr().err
