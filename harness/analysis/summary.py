"""The summary of a run, made from its records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.cells import MeasuredCell
from harness.analysis.cold_start import cold_start
from harness.analysis.contenders import rules_of
from harness.analysis.lacking_records import lacking_records
from harness.analysis.metrics import summarise_cell
from harness.analysis.model import SUMMARY_SCHEMA, Requirement, Summary, TuneChange
from harness.analysis.oracle import compare_logs, join
from harness.analysis.question import clients_of, hedged_policies, question_of
from harness.analysis.reasoning import reasoning_by_phase
from harness.analysis.recommend import Advice
from harness.analysis.selection import CellRecords, Dataset
from harness.analysis.server_texts import messages_by_outcome, models_that_answered
from harness.analysis.settings import policy_of, runs_command, runs_user_code
from harness.analysis.tune_summary import tune_summary
from harness.analysis.unpriced import unpriced_models
from harness.analysis.verdict import VIRTUAL_VERDICT, judge
from harness.analysis.workflow_failures import workflow_failures
from harness.records.schema import Run
from harness.records.settings import one_at_a_time
from harness.store.run_directory import SUMMARY_FILE, Records, write_whole


def write_summary(directory: Path, records: Records | None = None) -> Summary:
    """Write summary.json and return it; reads the records if not given. Raises StorageError."""
    summary = summarise(Dataset.read(directory) if records is None else records)
    write_whole(directory / SUMMARY_FILE, summary)
    return summary


def summarise(records: Records) -> Summary:
    """Return the summary of a run. The same records give the same summary."""
    records = Dataset.of(records)
    run, cells = records.run, list(records.cells.values())
    measured = _measured(cells)
    joined = join(records)
    lacking = lacking_records(records)
    advice = Advice(run, measured, lacking, records.tune)
    summaries = [
        msgspec.structs.replace(
            summarise_cell(cell),
            slo=advice.proofs[cell.records.info.id],
            late=sum(map(cell.rules.is_late, cell.records.workflows)),
            dropped_after=advice.dropped_before_the_end.get(cell.records.info.id),
        )
        for cell in measured
    ]
    return Summary(
        schema=SUMMARY_SCHEMA,
        run_id=run.run_id,
        scenario=run.name,
        status=run.status,
        simulated=run.simulated,
        time_scale=run.time_scale,
        cells=tuple(summaries),
        verdict=VIRTUAL_VERDICT if run.virtual else judge(cells, joined),
        oracle=None if joined is None else compare_logs(joined),
        recommendation=advice.recommendation(),
        virtual=run.virtual,
        marked_answers=run.marked_answers,
        cold_start=cold_start(cells),
        question=question_of(run),
        hedged=hedged_policies(run),
        planned_workflows=_planned(run),
        workflow_failures=workflow_failures(cells, runs_user_code=runs_user_code(run.scenario)),
        endpoint_keys=tuple(run.scenario["endpoint"]),
        own_retries=sum(one.own_retries for cell in cells for one in cell.workflows),
        stopped=run.stopped,
        margin=rules_of(run).margin,
        slo=_requirement(run),
        lacking=lacking,
        reasoning=reasoning_by_phase(cells),
        unverified_tls=any(map(_is_unverified, _endpoints(run))),
        server_said=messages_by_outcome(cells),
        answered_by=models_that_answered(run, cells),
        tune=tune_summary(records, advice.contenders, advice.decision, advice.changed),
        clients=clients_of(run),
        runs_commands=runs_command(run.scenario),
        serves_requests=run.serves_requests,
        unpriced=unpriced_models(run),
    )


def _requirement(run: Run) -> Requirement:
    rules, latency = rules_of(run), run.scenario["slo"]["workflow_latency"]
    return Requirement(
        success_rate=rules.asked,
        success_margin=rules.success_margin,
        workflow_latency_s=None if latency is None else latency * run.time_scale,
    )


def _endpoints(run: Run) -> list[dict[str, Any]]:
    """Return `[endpoint]` of each cell."""
    return [run.cell_scenario(cell)["endpoint"] for cell in run.cells]


def _is_unverified(endpoint: Mapping[str, Any]) -> bool:
    url: str = endpoint.get("base_url", "")
    return url.startswith("https:") and not endpoint.get("verify", True)


def _planned(run: Run) -> int | None:
    if run.tuned or run.serves_requests or run.scenario["sweep"]["repeats"] == "auto":
        return None
    workflows: int = run.scenario["load"]["workflows"]
    return len(run.cells) * run.repeats * workflows


def change_of_provider(directory: Path) -> TuneChange | None:
    """Return how the provider changed during a tune so far; None if nothing shows that it did."""
    records = Dataset.read(directory)
    measured = _measured(list(records.cells.values()))
    return Advice(records.run, measured, (), records.tune).changed


def _measured(cells: Sequence[CellRecords]) -> list[MeasuredCell]:
    return [MeasuredCell(cell, sync=_sync_of(cell, cells)) for cell in cells]


def _sync_of(cell: CellRecords, cells: Sequence[CellRecords]) -> CellRecords | None:
    """Return the sync cell that differs from `cell` only in mode and permits."""
    policy = policy_of(cell.info)
    syncs = (other for other in cells if one_at_a_time(other.info.mode))
    return next((other for other in syncs if policy_of(other.info) == policy), None)
