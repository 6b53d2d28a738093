"""Writes report.html of a run: one file that loads nothing, made from the records alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, get_args

from harness.analysis.question_pairs import transcripts_of_several
from harness.report import columns
from harness.report.anomalies import anomaly_tables
from harness.report.arrivals_text import arrivals_text
from harness.report.charts import catalogue
from harness.report.charts.catalogue import Charts, PageSection
from harness.report.charts.model import Chart
from harness.report.failures import failure_tables
from harness.report.html import method
from harness.report.html.answer import answer
from harness.report.html.templating import fill_template, write_page
from harness.report.html.tuning import tuning
from harness.report.html.waterfalls import ReadTexts, no_texts, slowness
from harness.report.tables import Subject, csv_download, summary_download
from harness.report.wording import repeats_of, simulated_note, tried_settings, warm_up_note
from harness.store.trial_reader import TrialReader
from harness.telemetry.delivery_log import DeliveryAccount, read_account
from harness.telemetry.export import TRACES
from harness.telemetry.jaeger import Jaeger, jaeger_of

REPORT = "report.html"


def save_report(
    about: Subject,
    charts: Charts,
    directory: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `directory`/report.html. Raises StorageError.

    `environment` can contain the address of Jaeger; see `jaeger_of`, whose InputError it raises.
    """
    traces = directory / TRACES
    jaeger = jaeger_of(traces, about.summary.run_id, environment)
    texts: ReadTexts = no_texts
    if about.data.run.scenario.get("transcripts"):
        texts = partial(transcripts_of_several, TrialReader(directory))
    text = render_report(about, charts, read_account(traces), jaeger, texts)
    path = directory / REPORT
    write_page(path, text)
    return path


def render_report(
    about: Subject,
    charts: Charts,
    account: DeliveryAccount | None,
    jaeger: Jaeger | None,
    texts: ReadTexts = no_texts,
) -> str:
    """Return the report as one HTML document. Equal records give equal text.

    `account`: the delivery of the spans; `jaeger`: a server that has them; None if not known.
    `texts`: reads the transcripts of the workflows that are shown.
    """
    summary, run = about.summary, about.data.run
    return fill_template(
        "report.html",
        ("script.js", "crosshair.js", "waterfall.js"),
        summary=summary,
        run=run,
        note=simulated_note(summary),
        description=run.scenario.get("description"),
        endpoint=method.endpoint_text(run),
        started=method.started(run),
        answer=answer(about),
        tune=tuning(summary),
        charts=_by_section(about, charts),
        compared=columns.comparison_tables(about),
        arrivals=arrivals_text(summary),
        phases=[*columns.phase_tables(about), *columns.spread_tables(about, "calls")],
        waits=columns.spread_tables(about, "waits"),
        policies=columns.policy_table(about),
        failures=[*failure_tables(about), *anomaly_tables(about)],
        slowness=slowness(about, jaeger, texts),
        named=about.named,
        fitness=method.fitness(about),
        overhead=method.overhead(summary, about.data, account),
        tried=tried_settings(summary),
        repeats=repeats_of(summary.cells),
        design=method.design(run, repeats_of(summary.cells), warm_up_note(summary)),
        definitions=method.DEFINITIONS,
        environment=method.environment(run),
        scenario=method.as_json(run.scenario),
        profile=method.profile_text(run),
        whole=summary_download(summary),
        csv_of=partial(csv_download, summary=summary),
    )  # fmt: skip


class _PageChart(NamedTuple):
    name: str
    chart: Chart
    folded: bool


def _by_section(about: Subject, charts: Charts) -> dict[PageSection, list[_PageChart]]:
    found: dict[PageSection, list[_PageChart]] = {name: [] for name in get_args(PageSection)}
    for named in catalogue.CHARTS:
        if chart := charts.get(named.name):
            found[named.section].append(_PageChart(named.name, chart, named.folded(about)))
    return found
