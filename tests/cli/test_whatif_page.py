"""`harness whatif RUN -o whatif.html`: the prediction also as a page."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.twin.predict import predict
from tests.report.html.reading import read, rows_of
from tests.twin.providers import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    return str(write_run(folder, {"concurrency_cap": 6}, permits=(2, 4), workflows=4, repeats=2))


@pytest.fixture(autouse=True)
def few_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make predictions whose intervals come from two fits."""
    monkeypatch.setattr("harness.cli.whatif.predict", functools.partial(predict, bootstraps=2))


def test_the_page_has_the_prediction_that_the_screen_shows(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "whatif.html"
    assert main(["whatif", run, "--set", "sweep.permits=[3, 8]", "-o", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"\nPage: {page}\n")
    document = read(page.read_text())
    assert "changed: sweep.permits=[3, 8]" in document.one("header").text
    rows = rows_of(document.one("table", aria_labelledby="objective-chart-title"))
    assert set(rows) == {"async 2", "async 3", "async 4", "async 8*"}
    assert rows["async 2"]["makespan s measured"] != "—"
    shown = rows["async 3"]["makespan s predicted"].split()[0]
    assert shown in next(line for line in out.splitlines() if line.startswith("async 3"))


def test_a_comparison_is_kept_in_the_page(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "check.html"
    assert main(["whatif", run, "--check", run, "-o", str(page), "--json"]) == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    document = read(page.read_text())
    assert f"Quality of the prediction: {quality}" in document.one("section", id="answer").text
    assert document.every("figure", id="agreement-chart")


def test_without_the_option_no_page_is_written(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["whatif", run]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page", "the page is an HTML file; give a name that ends in .html\n"),
        ("none/page.html", "is in a folder that does not exist; give a file that can be written\n"),
        ("folder.html", "is a folder; give a file that can be written\n"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_predicted(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    name: str, text: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("harness.cli.whatif.predict", _never)
    (tmp_path / "folder.html").mkdir()
    assert main(["whatif", run, "-o", str(tmp_path / name)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error == f"harness: -o {tmp_path / name}: {text}"


def test_a_page_that_cannot_be_written_comes_after_the_prediction(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "whatif.html"
    (tmp_path / "whatif.html.part").mkdir()
    assert main(["whatif", run, "-o", str(page)]) == 2
    out, error = capsys.readouterr()
    assert "PREDICTED" in out
    assert error == (
        f"harness: -o {page}: cannot be written (Is a directory); give a file that can be written\n"
    )


def test_a_page_that_fails_costs_one_line(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "whatif.html"
    monkeypatch.setattr("harness.cli.whatif.render_prediction_page", _never)
    assert main(["whatif", run, "-o", str(page)]) == 0
    out, error = capsys.readouterr()
    assert "PREDICTED" in out
    assert "Page: " not in out
    assert error == (
        f"harness: {page} could not be made (AssertionError: no call is expected); the prediction "
        "is complete without it\n"
    )
    assert not page.exists()


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("no call is expected")
