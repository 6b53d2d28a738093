"""Whether two runs can be compared: their workloads, and every other difference between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.analysis.cells import MeasuredCell
from harness.analysis.lacking_records import lacking_records
from harness.analysis.offered_load import schedule_fault
from harness.analysis.selection import Dataset
from harness.analysis.unpriced import unpriced_models, unpriced_text
from harness.config.prices import price_text
from harness.records.errors import InputError
from harness.records.schema import Run
from harness.records.settings import CLIENT_KEY, setting_of
from harness.store.run_directory import Records

_WORKLOAD = ("workflow", "prompts", "load")
"""Settings that must be the same in both runs, except those in `_NOTED` and `_OF_NO_MATTER`."""

_NOTED = (
    "endpoint", "timeouts", "retry", "workflow.on_branch_failure", "workflow.quorum", "slo",
    "success", "budget", "seed", "load.warmup_calls",
)  # fmt: skip
"""Settings that may differ, with a warning."""

_BEFORE = {"load.warmup_calls": 0, CLIENT_KEY: "openai"}
"""Settings that runs of earlier versions do not have, and the value that they had."""

_OF_NO_MATTER = ("endpoint.time_scale", "workflow.topics_file")


def refuse_workload(base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise InputError if two scenarios have different workloads."""
    for key, one, other in _unlike(base, new, _WORKLOAD):
        raise InputError(
            f"different workload: {key} is {_short(one)} in the first and {_short(other)} in the "
            "second; run the same workload"
        )


def records_lacking(which: str, records: Records) -> Iterable[str]:
    """Warn about a run that has lost records: its figures are of what is left."""
    if missing := lacking_records(Dataset.of(records)):
        yield (
            f"the {which} run has lost records, so no change is proven: {' '.join(missing)} "
            "Restore its files, or run it again"
        )


def differences_of_runs(
    base: Run, new: Run, pairs: Iterable[tuple[MeasuredCell, MeasuredCell]]
) -> Iterable[str]:
    """Warn about every other difference between the runs and between the compared cells."""
    for which, run in (("first", base), ("second", new)):
        if run.status != "complete":
            yield f"the {which} run is {run.status}, so its settings may hold less work"
    if base.time_scale != new.time_scale:
        yield (
            f"time scales differ ({base.time_scale:g} and {new.time_scale:g}): what the client "
            "itself costs weighs more at the smaller one"
        )
    if base.on_cluster != new.on_cluster:
        yield (
            "one run was measured by the machines of a Dask cluster, each with its own policy; all "
            "times and the load at the provider can differ because of that"
        )
    if base.processes != new.processes:
        yield (
            f"processes differ: {base.processes} and {new.processes} run each trial; all times "
            "include what the client takes"
        )
    every = list(pairs)
    yield from _of_prices(base, new, every)
    yield from dict.fromkeys(text for pair in every for text in _noted(*pair))
    for which, side in (("first", 0), ("second", 1)):
        if fault := schedule_fault(pair[side].records for pair in every):
            yield f"in the {which} run, {fault}"
    for what, one, other in (("host", base.host, new.host), ("versions", base.versions,
                                                             new.versions)):  # fmt: skip
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                yield f"{what}.{key} differs: {_short(one.get(key))} and {_short(other.get(key))}"


def _of_prices(
    base: Run, new: Run, pairs: Sequence[tuple[MeasuredCell, MeasuredCell]]
) -> Iterable[str]:
    for which, run, side in (("first", base, 0), ("second", new, 1)):
        models = unpriced_models(run, [pair[side].records.info for pair in pairs])
        if models:
            yield unpriced_text(models, f"so no cost in the {which} run is compared")
    for one, other in pairs:
        prices = [side.rules.price for side in (one, other)]
        if prices[0] != prices[1] and prices[0] is not None and prices[1] is not None:
            texts = [price_text(price) for price in prices if price is not None]
            yield f"prices differ: {texts[0]}, and {texts[1]}; so costs differ for the same tokens"
            return


def _noted(base: MeasuredCell, new: MeasuredCell) -> Iterable[str]:
    for key, one, other in _unlike(base.records.scenario, new.records.scenario, _NOTED):
        said = f"{key} differs: {_short(one)} and {_short(other)}"
        yield f"{said}; all times include what the client takes" if key == CLIENT_KEY else said
    profiles = (side.records.run.cell_profile(side.records.info.id) for side in (base, new))
    if len({json.dumps(profile, sort_keys=True) for profile in profiles}) > 1:
        yield "the provider's profile differs"


def _unlike(
    base: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]
) -> Iterable[tuple[str, Any, Any]]:
    """Yield the settings that differ, each by its own dotted key, with both values."""
    for key in keys:
        one, other = (setting_of(scenario, key) for scenario in (base, new))
        yield from (
            found
            for found in _apart(key, one, other)
            if found[0] not in _OF_NO_MATTER and (found[0] == key or found[0] not in _NOTED)
        )


def _apart(key: str, one: Any, other: Any) -> Iterable[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            yield from _apart(f"{key}.{name}", one.get(name), other.get(name))
        return
    one, other = (_BEFORE.get(key) if value is None else value for value in (one, other))
    if one != other:
        yield key, one, other


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
