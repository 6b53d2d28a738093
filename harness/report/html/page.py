"""Makes report.html of a run: one file, no request, nothing that was not in the records."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.model import Summary
from harness.analysis.summary import summarise
from harness.records.errors import StorageError
from harness.report import columns
from harness.report.charts.catalogue import Section, charts_of
from harness.report.charts.model import Chart
from harness.report.html import draw, method
from harness.report.html.answer import answer
from harness.report.html.failures import failures
from harness.report.html.overhead import audit
from harness.report.html.waterfalls import slowness
from harness.report.tables import csv_download, subject, summary_download
from harness.report.wording import simulated_note
from harness.store.run_directory import Records, read_records
from harness.telemetry.delivery_log import DeliveryAccount, read_account
from harness.telemetry.export import TRACES
from harness.telemetry.jaeger import Jaeger, jaeger_of

REPORT = "report.html"

_TEMPLATES = Path(__file__).with_name("templates")


class Sent(NamedTuple):
    """What became of a run's spans, and where they can be seen; None where that is not known."""

    account: DeliveryAccount | None
    jaeger: Jaeger | None


NOWHERE = Sent(None, None)


def write_report(directory: Path) -> Path:
    """Make `directory`/report.html from the records in `directory` and return its path.

    Raises StorageError when records cannot be read or the report cannot be written.
    """
    records = read_records(directory, small=True)
    return save_report(summarise(records), records, directory)


def save_report(
    summary: Summary,
    records: Records,
    directory: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `directory`/report.html of a summary and its records. Raises StorageError.

    `environment` may say where Jaeger is; see `jaeger_of`, whose InputError it raises.
    """
    traces = directory / TRACES
    sent = Sent(read_account(traces), jaeger_of(traces, summary.run_id, environment))
    path = directory / REPORT
    part = path.with_name(REPORT + ".part")
    try:
        part.write_text(render_report(summary, records, sent), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def render_report(summary: Summary, records: Records, sent: Sent = NOWHERE) -> str:
    """Return the report as one HTML document. The same records give the same text.

    `sent`: what became of the traces, and where they can be seen.
    """
    about = subject(summary)
    style = Markup(_read("style.css"))  # noqa: S704
    script = Markup(_read("script.js") + _read("waterfall.js"))  # noqa: S704
    return _environment().get_template("report.html").render(
        summary=summary,
        run=records.run,
        note=simulated_note(summary),
        description=method.description(records.run),
        endpoint=method.endpoint_text(records.run),
        started=method.started(records.run),
        answer=answer(about),
        charts=_charts(summary, records),
        compared=columns.comparison_tables(about),
        phases=[*columns.phase_tables(about), *columns.spread_tables(about, "calls")],
        waits=columns.spread_tables(about, "waits"),
        policies=columns.policy_table(about),
        failures=failures(about, records),
        slowness=slowness(about, records, sent.jaeger),
        named=about.named,
        fitness=method.fitness(about, records),
        audited=audit(summary, records, sent.account),
        design=method.design(records.run),
        definitions=method.DEFINITIONS,
        environment=method.environment(records.run),
        scenario=method.as_json(records.run.scenario),
        profile=None if records.run.profile is None else method.as_json(records.run.profile),
        whole=summary_download(summary),
        csv_of=partial(csv_download, summary=summary),
        style=style,
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (draw.panel_kind, draw.bar_paths, draw.curve_paths, draw.strength):
        environment.globals[function.__name__] = function
    return environment


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _charts(summary: Summary, records: Records) -> dict[Section, list[tuple[str, Chart]]]:
    """Return the charts that have something to show, with their names, by section."""
    found: dict[Section, list[tuple[str, Chart]]] = {name: [] for name in get_args(Section)}
    for named, chart in charts_of(summary, records):
        if chart is not None:
            found[named.section].append((named.name, chart))
    return found
