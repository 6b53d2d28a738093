"""The pages of a twin and of a prediction in a real browser, opened as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from harness.report.html.prediction_page import render_prediction_page
from harness.report.html.twin_page import render_twin
from harness.twin.fit import fit_observations
from harness.twin.fitted_curves import fitted_curves
from harness.twin.observations import observe
from harness.twin.prediction import CheckedValue
from tests.browser.test_report import EVERY, OPEN_ALL, assert_accessible
from tests.report.predictions import (
    MEASURED,
    make_check,
    make_prediction,
    predicted_cell,
    value,
)
from tests.twin.providers import play

OVERLAPS = """() => [...document.querySelectorAll('svg.axis, svg.scale')].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect());
  return boxes.flatMap((one, at) => boxes.slice(at + 1).filter((other) =>
    one.left < other.right && other.left < one.right &&
    one.top < other.bottom && other.top < one.bottom)).map(() => svg.outerHTML);
})"""
"""Return the axes on which texts overlap."""


def twin() -> str:
    provider = {
        "concurrency_cap": 12, "cap_steps": [{"at": "60s", "cap": 5}], "itl_b": "1ms",
        "ttft": {"median": "30ms", "sigma": 1.2},
    }  # fmt: skip
    seen = observe([play(provider, permits=(4, 16), workflows=30, repeats=3)])
    return render_twin(fitted_curves(seen, fit_observations(seen), simulated=True), "twin")


def comparison() -> str:
    """Return a page whose axes have ticks of four digits near each other."""
    cells = (
        replace(predicted_cell(2), values={"makespan": value(3380)}),
        replace(predicted_cell(4), values={"makespan": value(700)}),
    )
    values = tuple(
        CheckedValue(cell.info.id, "makespan", mean, mean, mean, mean, 0.0, "")
        for cell, mean in zip(cells, (3380, 700), strict=True)
    )
    check = make_check(prediction=make_prediction(cells=cells), values=values)
    return render_prediction_page(check, {})


MAKERS: dict[str, Callable[[], str]] = {
    "twin": twin,
    "prediction": lambda: render_prediction_page(make_prediction(), MEASURED, ["sweep.x=1"]),
    "comparison": comparison,
}


@pytest.fixture(scope="module", params=MAKERS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(MAKERS[request.param](), encoding="utf-8")
    return path


@pytest.mark.parametrize("context", EVERY, indirect=True)
def test_the_page_loads_nothing_else_raises_nothing_and_fits_the_screen(
    context: BrowserContext, file: Path
) -> None:
    asked: list[str] = []
    said: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri(), wait_until="networkidle")
    page.evaluate(OPEN_ALL)
    assert asked == [file.as_uri()]
    assert said == []
    wide, shown = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown
    assert page.evaluate(OVERLAPS) == []
    assert_accessible(page)


def test_dots_and_lines_of_the_fit_are_seen(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "twin.html"
    path.write_text(twin(), encoding="utf-8")
    page: Page = browser.new_page()
    page.goto(path.as_uri())
    strokes = {
        name: page.locator(f"#pace-chart path.{name}").evaluate(
            "one => [getComputedStyle(one).stroke, getComputedStyle(one).strokeDasharray]"
        )
        for name in ("cloud", "line", "dashed")
    }
    assert strokes["cloud"][0] != strokes["line"][0] == strokes["dashed"][0]
    assert strokes["line"][1] == "none" != strokes["dashed"][1]
    assert page.locator("#limits-chart line.reference").count() == 2 + 1  # of the legend
    page.close()
