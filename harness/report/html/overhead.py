"""What recording cost, and what became of the traces: the measurement's account of itself."""

from __future__ import annotations

from harness.analysis.model import Summary
from harness.records.clock import SECOND
from harness.report.html.method import Definitions
from harness.report.wording import counted, number, percent
from harness.store.run_directory import Records
from harness.telemetry.delivery_log import DeliveryAccount


def audit(summary: Summary, records: Records, account: DeliveryAccount | None) -> Definitions:
    """Return the account in terms; durations are real ones. `account` is of the spans."""
    return (*_cost(summary, records), *_spans(account))


def _cost(summary: Summary, records: Records) -> Definitions:
    """Return the client's processor time by call, and how much of it went into recording."""
    lag = summary.verdict.event_loop_lag_s
    calls = len(records.calls)
    cpu = sum(trial.cpu for trial in records.trials)
    recording = sum(trial.recording for trial in records.trials)
    if summary.virtual:
        return (("recording", "Time was virtual: recording could not disturb what is measured."),)
    told = []
    if calls and cpu:
        told.append(("processor time a call", f"{_ms(cpu / calls)} of the client's"))
    if calls and recording:
        told.append(
            (
                "of that for recording",
                f"{_ms(recording / calls)} a call, {percent(recording / cpu)}: every record is "
                "written as it ends; spans, statistics and plots are made after the trials",
            )
        )
    if lag is not None:
        told.append(
            ("event-loop lag", f"{_ms(lag.p50 * SECOND)} (p50), {_ms(lag.p99 * SECOND)} (p99) in "
             "the worst cell, recording included")
        )  # fmt: skip
    return tuple(told)


def _spans(account: DeliveryAccount | None) -> Definitions:
    if account is None:
        return (("spans", "There is no account of them."),)
    told = [("spans made", f"{account.made}")]
    if account.left_out:
        told.append(
            ("without a span", f"{counted(account.left_out, 'attempt')} of unfinished workflows")
        )
    if account.endpoint is None:
        told.append(("spans sent", "nowhere; “harness trace export” sends them at any time"))
        return tuple(told)
    told.append(
        (
            "spans sent",
            f"{account.delivered} delivered to {account.endpoint}, {account.refused} refused, "
            f"{account.undelivered} undelivered",
        )
    )
    if account.problem and (account.refused or account.undelivered):
        told.append(("why not all", account.problem))
    return tuple(told)


def _ms(nanoseconds: float) -> str:
    return f"{number(nanoseconds / 1e6)} ms"
