"""Links into Jaeger: `/trace/<id>` shows one trace, `/search?...` lists those that match.

The address of a trace cannot choose its view (timeline, flame graph): that is a state of Jaeger's
page. `uiFind` highlights the spans with a text, opens them and folds the others.
"""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from harness.records import ids
from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.records.failures import OK
from harness.records.schema import Run, Workflow
from harness.store.run_directory import Records
from harness.telemetry import attributes, delivery_log, semconv
from harness.telemetry.resource import SERVICE, service_name
from harness.telemetry.spans import root_span

JAEGER_URL_VARIABLE = "HARNESS_JAEGER_URL"
PORT = 16686
PROBE_SECONDS = 0.5
MOST_FOUND = 1500
"""The most traces that a search of Jaeger shows."""


class JaegerLink(NamedTuple):
    """A link: a description of what it shows and its URL."""

    what: str
    url: str


class Jaeger(NamedTuple):
    """A Jaeger server with traces of a run, sent by `service`.

    `has` returns whether it has those of a workflow.
    """

    base: str
    has: Callable[[Workflow], bool]
    service: str = SERVICE

    def trace(self, run_id: str, workflow: Workflow, find: str = "") -> str:
        """Return the URL of a workflow's trace; `find`: a text to highlight."""
        marked = f"?{urlencode({'uiFind': find})}" if find else ""
        return f"{self.base}/trace/{ids.workflow_trace(run_id, workflow)}{marked}"

    def search(self, run: Run, workflows: Sequence[Workflow]) -> str:
        """Return the URL of a search of `workflows`, all of one cell."""
        unix = run.anchor.unix_ns
        first = min(one.ready for one in workflows) - SECOND
        last = max(one.done for one in workflows) + SECOND
        tags = {semconv.RUN_ID: run.run_id, semconv.CELL: workflows[0].cell}
        name = attributes.workflow_name(run)
        asked = {
            "service": self.service,
            "operation": f"{semconv.INVOKE_WORKFLOW} {name}",
            "tags": json.dumps(tags, separators=(",", ":")),
            "start": (unix + first) // 1000,
            "end": (unix + last) // 1000,
            "limit": min(len(workflows), MOST_FOUND),
            "lookback": "custom",
        }
        return f"{self.base}/search?{urlencode(asked)}"


def jaeger_of(
    traces: Path,
    run_id: str,
    environment: Mapping[str, str],
    answers: Callable[[str], bool] | None = None,
) -> Jaeger | None:
    """Return the Jaeger server with the traces of a run; None if none is known.

    With HARNESS_JAEGER_URL, that server is assumed to have all traces. Otherwise, if the spans were
    sent to this machine, and a Jaeger `answers` on the default port there, it has the acknowledged
    spans. `traces` is the run's directory of traces. Raises InputError.
    """
    service = service_name(environment)
    if base := require_address(environment):
        return Jaeger(base, lambda _: True, service)
    account = delivery_log.read_account(traces)
    if account is None or account.endpoint is None or not account.delivered:
        return None
    host = urlsplit(account.endpoint).hostname or ""
    name = f"[{host}]" if ":" in host else host
    base = f"http://{name}:{PORT}"
    if not _is_this_machine(host) or not (answers or is_jaeger)(base):
        return None
    there = delivery_log.read_acknowledged(traces, account.endpoint).span_ids
    return Jaeger(base, lambda one: root_span(run_id, one) in there, service)


def is_jaeger(base: str) -> bool:
    """Return whether a Jaeger answers at `base` at once."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}/api/v3/services", timeout=PROBE_SECONDS) as response:
            return isinstance(json.load(response).get("services"), list)
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return False


def require_address(environment: Mapping[str, str]) -> str | None:
    """Return HARNESS_JAEGER_URL, None if it is not set. Raises InputError if it is not a URL."""
    url = environment.get(JAEGER_URL_VARIABLE, "").strip()
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            f"{JAEGER_URL_VARIABLE}: not an http URL; write for example http://127.0.0.1:{PORT}"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def links(records: Records, jaeger: Jaeger) -> Iterator[JaegerLink]:
    """Yield links to the slowest workflow, to one that failed, and to a search of a cell.

    They lead to workflows that `jaeger` has; the first says if a slower one was not delivered.
    """
    from harness.analysis.selection import Dataset  # imports NumPy

    every = [one for cell in Dataset.of(records).cells.values() for one in cell.workflows]
    found = [one for one in every if jaeger.has(one)]
    if not found:
        return
    run, slowest = records.run, max(found, key=_latency)
    slower = max(every, key=_latency)
    what = f"slowest workflow, in {slowest.cell}"
    if _latency(slower) > _latency(slowest):
        what = f"slowest delivered workflow, in {slowest.cell} (the slowest was not delivered)"
    yield JaegerLink(what, jaeger.trace(run.run_id, slowest))
    if lost := [one for one in found if one.outcome != OK]:
        worst = max(lost, key=lambda one: (one.outcome == "failed", _latency(one)))
        what = f"a {worst.outcome} workflow and its errors, in {worst.cell}"
        yield JaegerLink(what, jaeger.trace(run.run_id, worst, semconv.ERROR_TYPE))
    of_cell = [one for one in found if one.cell == slowest.cell]
    if len(of_cell) > 1:
        yield JaegerLink(f"all workflows of {slowest.cell}", jaeger.search(run, of_cell))


def _latency(workflow: Workflow) -> int:
    return workflow.done - workflow.ready
