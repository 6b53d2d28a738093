"""The report in a real browser, opened as a file: left out, visibly, where there is no Chromium."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page

from harness.analysis.summary import summarise
from tests.analysis.played import Shape, make_records
from tests.golden.runs import call
from tests.report.subjects import save_report

LONG = "full-jitter-with-a-rather-long-name"
CELLS = (
    f"sync_1_{LONG}_attempt", f"async_2_{LONG}_attempt", f"async_8_{LONG}_attempt",
    "async_8_none_attempt",
)  # fmt: skip
WIDTHS, SCHEMES = (400, 1400), ("light", "dark")
EVERY = list(itertools.product(WIDTHS, SCHEMES))
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(failure_rate=0.35)
    records = make_records(
        CELLS, 3, workflows=3, branches=2, shape=shape, time_scale=0.05,
        extra_toml=f'[retry.{LONG}]\nkind = "exponential"',
    )  # fmt: skip
    return save_report(summarise(records), records, tmp_path_factory.mktemp("run"))


RUNS: Mapping[str, Sequence[str]] = {
    "quickstart": ("quickstart", "load.workflows=2", 'sweep.permits=[8]'),
    "rate-limited": ("rate-limited", "load.workflows=2", 'sweep.permits=[2]'),
    "hedge": ("hedge", "load.workflows=4"),
    "outage": (
        "outage", "load.workflows=6", "workflow.sub_questions=3",
        'endpoint.faults=[{kind = "unavailable", outage = {start = "20s", duration = "60s"}}]',
    ),
    "all failed": (
        "quickstart", "load.workflows=2",
        'endpoint.faults=[{kind = "unavailable", probability = 1.0}]',
    ),
}  # fmt: skip
"""Short runs in virtual time whose reports differ in their parts: a scenario and its settings."""


@pytest.fixture(scope="module", params=RUNS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenario, *settings = RUNS[request.param]
    directory = tmp_path_factory.mktemp("ran") / "run"
    sets = [f"--set={one}" for one in ("endpoint.time=virtual", "sweep.repeats=2", *settings)]
    call(["run", scenario, *sets, "--out", str(directory), "--quiet"])
    return directory / "report.html"


@pytest.fixture
def page(context: BrowserContext, report: Path) -> Page:
    page = context.new_page()
    page.goto(report.as_uri())
    return page


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("context", EVERY, indirect=True)
def test_opening_the_report_asks_for_that_file_alone_and_raises_nothing_on_the_console(
    context: BrowserContext, report: Path
) -> None:
    asked: list[str] = []
    said: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri(), wait_until="networkidle")
    page.evaluate(OPEN_ALL)
    assert asked == [report.as_uri()]
    assert said == []


@pytest.mark.parametrize("context", EVERY, indirect=True)
def test_axe_finds_nothing_serious_with_everything_unfolded(page: Page) -> None:
    assert_accessible(page)


@pytest.mark.parametrize("context", [(1400, "light"), (1400, "dark")], indirect=True)
def test_axe_finds_nothing_serious_in_the_reports_of_runs(
    context: BrowserContext, ran: Path
) -> None:
    page = context.new_page()
    page.goto(ran.as_uri())
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    """Check the page with axe, with everything unfolded."""
    page.evaluate(OPEN_ALL)
    found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    assert "color-contrast" in {one["id"] for one in found["passes"]}, "axe has looked"
    assert [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ] == []


@pytest.mark.parametrize(("width", "most"), [(1400, 6000), (400, 10_000)])
def test_the_page_is_short_until_its_details_are_unfolded(
    browser: Browser, report: Path, width: int, most: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    folded = page.evaluate("document.documentElement.scrollHeight")
    page.evaluate(OPEN_ALL)
    unfolded = page.evaluate("document.documentElement.scrollHeight")
    page.close()
    assert folded < most
    assert folded < unfolded / 2


def test_the_answer_is_read_without_scrolling(page: Page) -> None:
    box = page.get_by_role("table", name="All settings, the best first").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900


@pytest.mark.parametrize("context", EVERY, indirect=True)
def test_the_page_never_scrolls_sideways(page: Page, context: BrowserContext) -> None:
    page.evaluate(OPEN_ALL)
    wide, shown = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown


@pytest.mark.parametrize("context", [(400, "light")], indirect=True)
def test_a_table_that_is_too_wide_scrolls_by_itself_and_can_be_reached_by_keyboard(
    page: Page,
) -> None:
    page.evaluate(OPEN_ALL)
    box = page.locator("article .table").first
    wide, shown = box.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert wide > shown
    box.focus()
    assert box.evaluate("box => document.activeElement === box")


def test_the_page_follows_the_scheme_of_the_system(browser: Browser, report: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page = browser.new_page()
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.goto(report.as_uri())
        seen[scheme] = background(page)
        page.close()
    assert seen["light"] != seen["dark"]


def test_the_button_switches_the_scheme_and_back(page: Page) -> None:
    light = background(page)
    page.get_by_role("button", name="Dark colours").click()
    assert background(page) != light
    page.get_by_role("button", name="Light colours").click()
    assert background(page) == light


def test_a_click_on_a_heading_sorts_by_number_and_another_click_turns_it_round(page: Page) -> None:
    page.evaluate(OPEN_ALL)
    table = page.get_by_role("table", name="Speed")
    head = table.get_by_role("columnheader", name="makespan")

    def makespans() -> list[float]:
        texts = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
        return [float(text.split()[0]) for text in texts]

    assert makespans() != sorted(makespans())
    head.get_by_role("button").click()
    assert makespans() == sorted(makespans())
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert makespans() == sorted(makespans(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("name", ["permits.csv", "speed.csv", "timeline.csv", "summary.json"])
def test_a_figures_data_are_downloaded_under_their_name(page: Page, name: str) -> None:
    whole = f"synthetic-simulated-{name}"
    page.evaluate(OPEN_ALL)
    with page.expect_download() as waiting:
        page.get_by_role("link", name=whole).click()
    assert waiting.value.suggested_filename == whole
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert text.startswith("{" if name.endswith("json") else "cell,mode,permits,")
    assert text.count("true") > 0, "the data say that they are simulated"


def test_the_report_reads_without_javascript(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.get_by_role("heading", name="Answer").is_visible()
    assert page.locator("p.lead").is_visible()
    assert page.locator("#time-spent svg .bars path").first.is_visible()
    assert page.get_by_role("table", name="All settings, the best first").is_visible()
    page.get_by_text("Tables: speed, work, tokens").click()
    assert page.get_by_role("table", name="Speed").is_visible()
    assert page.locator("button").count() == 1
    assert page.locator("button").is_hidden()
    context.close()


def test_the_marks_of_a_chart_have_the_colour_of_their_mode_in_both_schemes(
    browser: Browser, report: Path
) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        page = browser.new_page()
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.goto(report.as_uri())
        bars = page.locator("#latency-throughput .bars path:is(.blue, .orange)")
        found = bars.evaluate_all("bars => bars.map(bar => getComputedStyle(bar).fill)")
        assert len(set(found)) == 2, "async and sync differ"
        assert background(page) not in found
        colours |= set(found)
        page.close()
    assert len(colours) == 4


def test_one_crosshair_moves_over_all_charts_that_share_an_axis(page: Page) -> None:
    tracks = page.locator("#permits .plot .track:not(.axis)")
    lines = page.locator("#permits .crosshair:visible")
    assert lines.count() == 0
    box = tracks.first.bounding_box()
    assert box is not None
    tracks.first.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert lines.count() == tracks.count() > 1
    values = lines.evaluate_all("lines => lines.map(line => line.dataset.value)")
    assert len(set(values)) == 1
    assert 2 < float(values[0]) < 8
    assert page.locator("#latency-ecdf .crosshair:visible").count() == 0
    page.mouse.move(0, 0)
    assert lines.count() == 0


# Why was this workflow slow?


def shown_workflows(page: Page) -> list[str]:
    """Return the titles of the workflows that are to be seen."""
    return page.locator("details.workflow:visible > summary").all_inner_texts()


def test_a_workflow_is_chosen_from_a_list_by_its_neighbours_or_by_the_address(
    page: Page, report: Path
) -> None:
    choice = page.get_by_label("Workflow", exact=True)
    titles = choice.locator("option").all_inner_texts()
    assert len(titles) > 5
    assert shown_workflows(page) == [titles[0]]
    assert page.get_by_role("button", name="Previous").is_disabled()
    choice.select_option(index=3)
    assert shown_workflows(page) == [titles[3]]
    page.get_by_role("button", name="Next").click()
    assert shown_workflows(page) == [titles[4]]
    page.get_by_role("button", name="Previous").click()
    assert shown_workflows(page) == [titles[3]]
    named = page.locator("details.workflow").nth(5).get_attribute("id")
    page.goto("about:blank")
    page.goto(f"{report.as_uri()}#{named}")
    assert shown_workflows(page) == [titles[5]]


def test_a_workflow_is_read_by_keyboard_alone(page: Page) -> None:
    choice = page.get_by_label("Workflow", exact=True)
    choice.focus()
    page.keyboard.press("ArrowDown")
    titles = choice.locator("option").all_inner_texts()
    assert shown_workflows(page) == [titles[1]]
    said = page.locator("details.workflow:visible .told")
    assert said.inner_text() == ""
    for _ in range(12):  # the buttons beside the list, the summary, then the calls
        page.keyboard.press("Tab")
        if said.inner_text():
            break
    names = page.locator("details.workflow:visible .row[data-words] button").all_text_contents()
    labels = [name.removesuffix(", on the critical path") for name in names]
    assert said.inner_text().startswith(f"{labels[0]}: ")
    page.keyboard.press("Tab")
    assert said.inner_text().startswith(f"{labels[1]}: ")
    row = page.locator("details.workflow:visible .row.told-of")
    assert row.locator("button").evaluate("one => one === document.activeElement")


@pytest.mark.parametrize("context", EVERY, indirect=True)
def test_parts_have_colours_of_their_own_and_the_path_is_marked(page: Page) -> None:
    parts = ("pale", "orange", "vermillion", "sky", "blue", "green")
    fill = "one => getComputedStyle(one).fill"
    colours = {page.locator(f"#workflows .bars path.{part}").first.evaluate(fill) for part in parts}
    assert len(colours) == len(parts)
    path = page.locator("details.workflow:visible path.path")
    assert path.count() >= 3
    assert path.first.evaluate(fill) not in colours
    held = page.locator("details.workflow:visible .row.marked .label")
    assert "on the critical path" in str(held.first.text_content())
    assert held.first.evaluate("one => getComputedStyle(one).fontWeight") == "700"


def test_the_straggler_is_named_and_its_row_is_on_the_path(page: Page) -> None:
    whole = page.locator("details.workflow:visible")
    sentence = whole.get_by_text(re.compile(r"^Branch \d+ ended the fan-out")).inner_text()
    name = sentence.split(" ended")[0].lower()
    assert whole.locator(".row.marked", has_text=name).count() == 1


def test_without_javascript_every_workflow_can_be_unfolded(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    first, second = (page.locator("details.workflow").nth(at) for at in (0, 1))
    assert first.locator(".row").first.is_visible()
    assert not second.locator(".row").first.is_visible()
    second.locator("summary").first.click()
    assert second.locator(".row").first.is_visible()
    assert page.locator("#chooser").is_hidden()
    context.close()
