"""Odd names, options and files of a run: one line says what is wrong and the way out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.cli.answering import one_line
from tests.cli.test_compare import BASE, run_of


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str, codes: tuple[int, ...] = (2,)
) -> str:
    """Return the one line with which a command refuses its input."""
    code = main(arguments)
    line = one_line(capsys.readouterr().err)
    assert code in codes, line
    assert "internal error" not in line
    assert "Traceback" not in line
    return line


READERS = [
    ["report"], ["trace"], ["trace", "export"], ["export"], ["reasoning"], ["reasoning", "diff"],
    ["compare"],
]  # fmt: skip


@pytest.mark.parametrize("command", READERS, ids=" ".join)
@pytest.mark.parametrize(
    "name", ["none", "a file", "empty folder", "", "no\nsuch", "\udcff", "x" * 5000],
    ids=["none", "file", "folder", "empty", "newline", "bytes", "long"],
)  # fmt: skip
def test_what_is_no_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").write_text("")
    Path("empty folder").mkdir()
    second = [name] if command[-1] in {"compare", "diff"} else []
    assert "give a directory that harness run made" in refused(capsys, *command, name, *second)


def replaced(name: str, value: object) -> Callable[[bytes], bytes]:
    """Return a function that replaces a field of a JSON file."""
    return lambda data: json.dumps(json.loads(data) | {name: value}).encode()


BROKEN_HEADS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "binary": lambda _: bytes(range(256)),
    "list": lambda _: b"[]",
    "newer": replaced("schema", 99),
    "no scenario": replaced("scenario", {}),
    "no time": replaced("time_scale", 0),
    "time backwards": replaced("time_scale", -1),
}


@pytest.mark.parametrize("command", [*READERS[:5], READERS[-1]], ids=" ".join)
@pytest.mark.parametrize("change", BROKEN_HEADS.values(), ids=BROKEN_HEADS)
def test_a_broken_run_json(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    change: Callable[[bytes], bytes],
) -> None:
    run = run_of(tmp_path, "run", BASE)
    path = Path(run) / "run.json"
    path.write_bytes(change(path.read_bytes()))
    second = [run] if command == ["compare"] else []
    line = refused(capsys, *command, run, *second, codes=(2, 4))
    assert line.startswith(f"harness: {path}: ")
    assert "; restore the file, or run the scenario again" in line or "; install the" in line


@pytest.mark.parametrize("command", [*READERS[:5], READERS[-1]], ids=" ".join)
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflows.jsonl", b'"repeat":0', b'"repeat":-7'),
        ("trials.jsonl", b'"repeat":0', b'"repeat":-1'),
        ("workflows.jsonl", b"{", b"\xff{"),
        ("workflows.jsonl", b"{", b"\n{"),
    ],
    ids=["negative", "negative trial", "binary", "blank"],
)
def test_a_broken_record(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    file: str,
    old: bytes,
    new: bytes,
) -> None:
    run = run_of(tmp_path, "run", BASE)
    path = Path(run) / file
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    second = [run] if command == ["compare"] else []
    line = refused(capsys, *command, run, *second, codes=(2, 4))
    assert line.startswith(f"harness: {path}:1: ")
    assert line.endswith("; correct the line, or remove it")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "-o", "\udcff.toml"], "not a name that can be printed"),
        (["init", "-o", "a\nb.toml"], "not a name that can be printed"),
        (["init", "-o", "none/x.toml"], "name a file in a folder that exists"),
        (["init", "-o", "."], "exists already"),
        (["init", "-o", "x" * 400], "cannot be written"),
        (["init", "--endpoint", "http://h/v1", "--model", "\udcff"], "--model"),
        (["scenarios", "a\nb"], "a b: no such file"),
        (["scenarios", "\udcff"], "?: no such file"),
        (["schema", "x"], "unrecognized arguments"),
        (["completion", "tcsh"], "invalid choice"),
        (["serve", "--seed", "-1"], "give a whole number, at least 0"),
        (["serve", "--seed", "9" * 5000], "of at most 18 digits"),
        (["serve", "--port", "99999"], "a port is 0 to 65535"),
        (["serve", "--time-scale", "nan"], "--time-scale nan: give a number above 0, up to 1"),
        (["serve", "--port", "x"], "--port x: give a whole number"),
        (["run", "quickstart", "--jobs", "0"], "--jobs 0: give a whole number, at least 1"),
        (["run", "quickstart", "--jobs"], "--jobs: expected one argument; `harness run --help`"),
        (["rum"], "COMMAND rum: invalid choice (did you mean 'run'?); `harness --help` shows"),
        (["export", "RUN", "--format", "x"], "--format x: invalid choice, not one of csv, parq"),
        ([], "the following arguments are required: COMMAND; `harness --help` shows"),
        (["serve", "a\nb"], "profile a b: no such profile"),
        (["serve", "\udcff"], "profile ?: no such profile"),
        (["serve", "--set", "ttft=-1"], "ttft"),
        (["serve", "--log", "."], "cannot be written"),
        (["trace", "RUN", "a\nb"], r"a\nb: no workflow of this run"),
        (["trace", "RUN", "a/1/" + "9" * 5000], "no workflow of this run"),
        (["trace", "RUN", "a/1/1", "--failed"], "leave out one"),
        (["trace", "RUN", "a/1/1", "--slowest", "2"], "leave out one"),
        (["trace", "RUN", "--spans", "--json"], "leave out one"),
        (["trace", "RUN", "--slowest", "9" * 5000], "give a whole number, at least 1"),
        (["report", "RUN", "--only", "a\nb"], r"--only a\nb: no such plot"),
        (["export", "RUN", "--out", "RUN/run.json"], "name another directory with --out DIR"),
        (["export", "RUN", "--out", "RUN/run.json/x"], "name another directory with --out DIR"),
        (["export", "RUN", "--out", "x" * 400], "name another directory with --out DIR"),
        (["compare", "RUN", "RUN", "--fail-on", "a\nb"], r"a\nb: not a rule"),
        (["compare", "RUN", "RUN", "--require-power", "0.8"], "no --fail-on RULE"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_an_odd_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    run = run_of(tmp_path, "run", BASE)
    given = [one.replace("RUN", run) for one in arguments]
    assert words in refused(capsys, *given, codes=(2, 4))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path, "run", BASE)
    Path(run).chmod(0o500)
    assert "cannot be written" in refused(capsys, "export", run, codes=(4,))
