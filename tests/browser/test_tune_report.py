"""The report of a tune in a real browser, opened as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import BrowserContext, Page

from harness.analysis.model import Summary
from harness.analysis.summary import summarise
from tests.browser.test_report import assert_accessible
from tests.browser.test_twin_pages import OVERLAPS
from tests.report.subjects import save_report
from tests.tune.played import BEST, UNTRIED, tune_records

RECORDS = tune_records()
WHY = "open: no practical number of blocks would prove it; tune.max_blocks allows 24"


def with_limits_and_long_reasons(summary: Summary) -> Summary:
    tune = summary.tune
    assert tune is not None
    limits = {BEST: "elastic", UNTRIED[1]: "gradient2", UNTRIED[2]: "inspect-ai"}
    settings = tuple(
        replace(one, info=replace(one.info, limiter=limits.get(one.info.id, "")))
        for one in tune.settings
    )
    steps = tuple(replace(one, reason=WHY, attempts=12_345) for one in tune.steps)
    return replace(summary, tune=replace(tune, settings=settings, steps=steps))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    summary = with_limits_and_long_reasons(summarise(RECORDS))
    return save_report(summary, RECORDS, tmp_path_factory.mktemp("run"))


@pytest.fixture
def page(context: BrowserContext, report: Path) -> Page:
    page = context.new_page()
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("context", [(1000, "light")], indirect=True)
def test_the_blocks_fit_into_a_thousand_pixels(page: Page) -> None:
    table = page.locator(".table[aria-labelledby=blocks-table]")
    wide, shown = table.evaluate("one => [one.scrollWidth, one.clientWidth]")
    assert wide <= shown


@pytest.mark.parametrize("context", [(400, "light"), (1000, "dark")], indirect=True)
def test_the_names_of_limits_do_not_overlap_and_the_page_is_accessible(page: Page) -> None:
    assert_accessible(page)
    names = page.locator("#tuned-settings svg.axis text.name")
    assert names.all_text_contents() == ["elastic", "gradient2", "inspect-ai"]
    assert page.evaluate(OVERLAPS) == []


def test_the_crosshair_has_a_value_over_numbers_of_permits_alone(page: Page) -> None:
    track = page.locator("#tuned-settings .plot .track:not(.axis)")
    line = page.locator("#tuned-settings .crosshair:visible")
    box = track.bounding_box()
    assert box is not None
    said = []
    for share in (0.3, 0.9):
        track.hover(position={"x": share * box["width"], "y": box["height"] / 2})
        said.append(line.get_attribute("data-value"))
    assert said[0]
    assert said[1] == ""
