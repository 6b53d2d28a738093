"""Links into Jaeger: `/trace/<id>` shows one trace, `/trace/<id>...<id>` two side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from harness.records import ids
from harness.records.errors import InputError
from harness.records.failures import OK
from harness.records.schema import Workflow
from harness.store.run_directory import Records
from harness.telemetry import delivery_log
from harness.telemetry.spans import root_span

if TYPE_CHECKING:
    from harness.analysis.selection import CellRecords

JAEGER_URL_VARIABLE = "HARNESS_JAEGER_URL"
PORT = 16686


class JaegerLink(NamedTuple):
    """A link: a description of the trace and its URL."""

    what: str
    url: str


class Jaeger(NamedTuple):
    """A Jaeger server with traces of a run. `has` returns whether it has those of a workflow."""

    base: str
    has: Callable[[Workflow], bool]

    def trace(self, run_id: str, workflow: Workflow) -> str:
        """Return the URL of a workflow's trace."""
        return f"{self.base}/trace/{ids.workflow_trace(run_id, workflow)}"

    def side_by_side(self, run_id: str, one: Workflow, other: Workflow) -> str:
        """Return the URL of the comparison of two workflows."""
        return f"{self.trace(run_id, one)}...{ids.workflow_trace(run_id, other)}"


def jaeger_of(traces: Path, run_id: str, environment: Mapping[str, str]) -> Jaeger | None:
    """Return the Jaeger server with the traces of a run; None if none is known.

    With HARNESS_JAEGER_URL, that server is assumed to have all traces. Otherwise, if the spans were
    sent to this machine, it is on the default port there and has the acknowledged spans. `traces`
    is the run's directory of traces. Raises InputError.
    """
    if base := require_address(environment):
        return Jaeger(base, lambda _: True)
    account = delivery_log.read_account(traces)
    if account is None or account.endpoint is None or not account.delivered:
        return None
    host = urlsplit(account.endpoint).hostname or ""
    if not _is_this_machine(host):
        return None
    there = delivery_log.read_acknowledged(traces, account.endpoint).span_ids
    name = f"[{host}]" if ":" in host else host
    return Jaeger(f"http://{name}:{PORT}", lambda one: root_span(run_id, one) in there)


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
    """Yield links to the slowest workflow, a failed one, and a comparison of two cells."""
    from harness.analysis.selection import Dataset  # imports NumPy

    cells = [
        cell._replace(workflows=[one for one in cell.workflows if jaeger.has(one)])
        for cell in Dataset.of(records).cells.values()
    ]
    every = [one for cell in cells for one in cell.workflows]
    run_id = records.run.run_id
    if every:
        slowest = max(every, key=_latency)
        yield JaegerLink(f"slowest workflow, in {slowest.cell}", jaeger.trace(run_id, slowest))
    if lost := [one for one in every if one.outcome != OK]:
        worst = max(lost, key=lambda one: (one.outcome == "failed", _latency(one)))
        what = f"a {worst.outcome} workflow, in {worst.cell}"
        yield JaegerLink(what, jaeger.trace(run_id, worst))
    if pair := _pair([cell for cell in cells if cell.workflows]):
        what = f"the same workflow in {pair[0].cell} and {pair[1].cell}"
        yield JaegerLink(what, jaeger.side_by_side(run_id, *pair))


def _latency(workflow: Workflow) -> int:
    return workflow.done - workflow.ready


def _pair(cells: Sequence[CellRecords]) -> tuple[Workflow, Workflow] | None:
    """Return one workflow in the cells with the longest and the shortest median latency."""
    if len(cells) < 2:
        return None
    ranked = sorted(cells, key=lambda cell: -statistics.median(map(_latency, cell.workflows)))
    slow, fast = ranked[0], ranked[-1]
    others = {(one.repeat, one.workflow): one for one in fast.workflows}
    pairs = [
        (one, others[one.repeat, one.workflow])
        for one in slow.workflows
        if (one.repeat, one.workflow) in others
    ]
    good = [pair for pair in pairs if all(one.outcome == OK for one in pair)] or pairs
    if not good:
        return None
    middle = statistics.median_low(_latency(pair[0]) for pair in good)
    return next(pair for pair in good if _latency(pair[0]) == middle)
