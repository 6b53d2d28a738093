"""The pytest plugin in the suites of foreign projects, with and without xdist."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import harness

pytest_plugins = ["pytester"]

ROOT = Path(harness.__file__).parents[1]

SCENARIO = """
name = "small"
seed = 7

[workflow]
topics = ["tides", "trains"]
sub_questions = 2

[endpoint]
kind = "simulated"
time = "virtual"

[load]
workflows = 4
in_flight = 2

[sweep]
mode = ["async"]
permits = [1, 8]
repeats = 3
"""

PROGRAM = """
import harness


@harness.workflow
async def ask_once(ask, topic):
    return (await ask("answer", f"What is {topic}?")).text
"""

SUITE = """
import pytest


@pytest.mark.harness("small.toml")
def test_marked(harness_result):
    harness_result.assert_at_most("makespan", 100_000, permits=8)
    assert len(harness_result.summary.cells) == 2


@pytest.mark.harness("small.toml", {"sweep.repeats": 2})
def test_mark_alone():
    pass


def test_above(harness_run):
    run = harness_run("small.toml", {"load.workflows": 8})
    assert run.figure("makespan", permits=1).value > 10
    run.assert_at_most("makespan", 10.0)


def test_plain_assertion(harness_run):
    assert harness_run("small.toml").summary.cells == ()
"""


def options() -> list[str]:
    """Return the options that load the plugin where the distribution is installed without it."""
    known = metadata.entry_points(group="pytest11", name="harness")
    return [] if known else ["-p", "harness.testing.plugin"]


def suite(pytester: pytest.Pytester, *arguments: str, text: str = SUITE) -> pytest.RunResult:
    pytester.makepyfile(test_load=text)
    pytester.makefile(".toml", small=SCENARIO)
    return pytester.runpytest_subprocess(
        *options(),
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-W",
        "error",
        *arguments,
    )


def kept(result: pytest.RunResult) -> list[Path]:
    """Return the directories that the output names, without those that are named twice."""
    found = re.findall(r"kept in (\S+)", result.stdout.str())
    return [Path(path) for path in dict.fromkeys(found)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_foreign_suite_and_where_its_runs_are(pytester: pytest.Pytester, workers: int) -> None:
    xdist = ["-n", str(workers)] if workers else []
    result = suite(pytester, "--basetemp", str(pytester.path / "tmp"), *xdist)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.re_match_lines([
        r"E +AssertionError: makespan of permits=8 is [\d.]+ s \(95 % interval [\d.]+ to [\d.]+, "
        r"24 workflows, simulated\), above 10 s; the run is kept in \S+"
    ])  # fmt: skip
    above, plain = sorted(kept(result), key=lambda path: path.name)
    assert "test_above" in above.name
    assert "test_plain_assertion" in plain.name
    assert (above / "run.json").exists()
    assert (plain / "run.json").exists()
    left = {path.parent for path in (pytester.path / "tmp").rglob("run.json")}
    assert left == {above, plain}
    if workers:
        assert {path.parent.name for path in (above, plain)} <= {"popen-gw0", "popen-gw1"}


def test_all_runs_are_kept_in_a_folder_that_is_named(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nharness_runs = kept")
    text = SUITE.partition("def test_above")[0]
    suite(pytester, text=text).assert_outcomes(passed=2)
    suite(pytester, "-n", "1", text=text).assert_outcomes(passed=2)
    suite(pytester, "--harness-runs", "other", "-k", "alone", text=text)
    found = {path.parent.relative_to(pytester.path) for path in pytester.path.rglob("run.json")}
    places = ("kept", "kept/gw0")
    names = {f"{at}/{name}" for at in places for name in ("test_marked", "test_mark_alone")}
    assert {path.as_posix() for path in found} == {*names, "other/test_mark_alone"}


def test_a_function_is_run_as_a_workflow(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(program=PROGRAM)
    result = suite(pytester, text="""
        from program import ask_once

        def test_function(harness_run):
            run = harness_run(
                ask_once, topics=["tides", "trains"], permits=[2],
                endpoint={"kind": "simulated", "time": "virtual"},
                load={"workflows": 4, "in_flight": 2}, sweep={"mode": ["async"], "repeats": 3},
            )
            run.assert_at_least("success_rate", 0.5)
            assert run.summary.cells[0].calls.started == 12
    """)  # fmt: skip
    result.assert_outcomes(passed=1)


def test_a_budget_that_ends_a_run_fails_its_assertions(pytester: pytest.Pytester) -> None:
    result = suite(pytester, text="""
        def test_budget(harness_run):
            run = harness_run("small.toml", {"budget.attempts": 20})
            run.assert_at_most("makespan", 1e9, permits=8)
    """)  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [r"E +AssertionError: the run is partial: budget.attempts = 20 .*"]
    )


def test_a_regression_is_found_against_another_run(pytester: pytest.Pytester) -> None:
    result = suite(pytester, text="""
        def test_regression(harness_run):
            base = harness_run("small.toml")
            same = harness_run("small.toml")
            same.assert_no_regression(base.result, "makespan>+10%")
            slow = harness_run("small.toml", {"endpoint.override.slots": 1})
            slow.assert_no_regression(base.result, "makespan>+10%")
    """)  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [r"E +AssertionError: makespan of \S+ changed by \+.* %, against .*"]
    )
    assert len(kept(result)) == 3


def test_mistakes_are_one_line(pytester: pytest.Pytester) -> None:
    result = suite(pytester, text="""
        import pytest

        def test_no_mark(harness_result):
            pass

        def test_no_file(harness_run):
            harness_run("nowhere.toml")

        @pytest.fixture(scope="module")
        def names():
            return ["makespann", "makespan"]

        def test_names(harness_run, names):
            run = harness_run("small.toml", {"sweep.repeats": 1})
            with pytest.raises(Exception, match="did you mean 'makespan'"):
                run.assert_at_most(names[0], 1)
            with pytest.raises(Exception, match="no setting with permits=3; it has permits=1"):
                run.assert_at_most(names[1], 1, permits=3)
    """)  # fmt: skip
    result.assert_outcomes(errors=1, failed=1, passed=1)
    result.stdout.fnmatch_lines(["*harness_result needs @pytest.mark.harness*"])
    result.stdout.fnmatch_lines(["*nowhere.toml*"])


def test_starting_pytest_imports_no_part_of_the_harness_but_the_plugin(
    pytester: pytest.Pytester,
) -> None:
    result = suite(pytester, text="""
        import sys

        def test_modules():
            own = {name for name in sys.modules if name.split(".")[0] == "harness"}
            assert own <= {"harness", "harness.testing", "harness.testing.plugin"}
    """)  # fmt: skip
    result.assert_outcomes(passed=1)


def test_the_harness_does_not_import_pytest() -> None:
    code = "import sys, harness.library, harness.cli.main; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
