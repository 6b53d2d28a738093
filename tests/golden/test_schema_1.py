"""Runs that were recorded with schema 1 stay readable, here one against a real model server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.golden.comparison import compare_rows, report
from tests.golden.runs import SCHEMA_1, call, load, summary_of, unpack


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema-1") / "run"
    unpack(folder)
    return folder


def test_the_report_has_the_same_figures(directory: Path) -> None:
    assert call(["report", str(directory)]) == 0
    assert (directory / "report.html").is_file()
    old, (summary, texts) = load(SCHEMA_1.name), summary_of(directory)
    found = compare_rows("summary", old.summary, summary) + compare_rows("texts", old.texts, texts)
    assert not found, report(found)


def test_the_run_can_be_compared(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    assert call(["compare", str(directory), str(tmp_path / "copy")]) == 0


@pytest.mark.parametrize("options", [[], ["--json"], ["--spans"], ["--slowest", "2"]])
def test_the_run_can_be_traced(
    directory: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["trace", str(directory), *options]) == 0
    assert "fan" in capsys.readouterr().out


def test_the_spans_can_be_exported(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["trace", "export", str(directory)]) == 0
    assert capsys.readouterr().out.startswith("1581 spans in ")


def test_the_tables_can_be_exported(directory: Path, tmp_path: Path) -> None:
    assert call(["export", str(directory), "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "attempts.csv").read_text().splitlines()
    assert len(lines) == 1 + 300
