"""Predictions and twins that nobody fitted, with values that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as replace_fields

from harness.records.schema import CellInfo
from harness.twin.prediction import (
    CheckedMetric,
    CheckedPrediction,
    CheckedValue,
    LeftOutSetting,
    MeasuredMean,
    MeasuredMeans,
    PredictedCell,
    PredictedValue,
    Prediction,
    WeakPlace,
)
from harness.twin.twin_curves import (
    FittedCurve,
    LengthCounts,
    LimitCounts,
    PartText,
    TwinCurves,
)

EVIL = """</title></script><script>alert("1")</script><img src=x onerror='alert(2)'> & "q" 'r'"""


def info(permits: int, retry: str = "full-jitter", mode: str = "async") -> CellInfo:
    name = f"{mode}_{permits}_{retry}_attempt"
    return CellInfo(id=name, mode=mode, permits=permits, retry=retry, permit_scope="attempt")


def limited(most: int, name: str, retry: str = "full-jitter") -> CellInfo:
    """Return a setting with a limit that adapts."""
    return replace_fields(info(most, retry), id=f"async_{name}_{retry}_attempt", limiter=name)


def value(mean: float) -> PredictedValue:
    """Return a value with an interval of a tenth to both sides."""
    return PredictedValue(mean, 0.9 * mean, 1.1 * mean, 0.2, 0.01, 5.0, 0.01, None)


def predicted_cell(permits: int, retry: str = "full-jitter", beyond: str = "") -> PredictedCell:
    success = PredictedValue(0.96, 0.9, 1.0, 0.1, 0.01, 5.0, 0.01, None)
    values = {
        "makespan": value(1000 / permits), "ttft_p50": value(0.5), "success_rate": success,
        "output_rate": value(20.0 * permits),
    }  # fmt: skip
    return PredictedCell(info(permits, retry), values, beyond)


MEASURED: MeasuredMeans = {
    "makespan": {
        info(4).id: MeasuredMean(260, 240, 280),
        info(8).id: MeasuredMean(130, None, None),
    },
    "ttft_p50": {info(4).id: MeasuredMean(0.48, 0.45, 0.51)},
    "success_rate": {info(4).id: MeasuredMean(1.0, 1.0, 1.0)},
}


def make_prediction(**fields: Any) -> Prediction:
    """Return a prediction of 2, 4 and 16 permits with two policies by a run of 4 and 8."""
    cells = tuple(
        predicted_cell(permits, retry, f"{permits} permits are more" if permits > 8 else "")
        for retry in ("full-jitter", "openai-sdk") for permits in (2, 4, 16)
    )  # fmt: skip
    errors: Mapping[str, Sequence[LeftOutSetting]] = {
        "makespan": [
            LeftOutSetting(info(4).id, 0.02, 0.0, True, 0.69),
            LeftOutSetting(info(8).id, -0.1, 0.0, False, 0.69),
        ],
        "success_rate": [LeftOutSetting(info(4).id, -0.02, 0.0, True, 0.69)],
    }  # fmt: skip
    plain = Prediction(
        "tides", True, 1_234, cells, errors, 4, 30, ("the pace above 8 in flight",),
        ("2 topics are not in the run",), None, 0.05, "makespan", (info(4), info(8)),
        ("tides (0123abcd)",),
    )  # fmt: skip
    return replace(plain, **fields)


def make_check(**fields: Any) -> CheckedPrediction:
    """Return a comparison in which one value is as expected and one is not."""
    values = (
        CheckedValue(info(4).id, "makespan", 250, 260, 220, 280, -0.04, ""),
        CheckedValue(info(2).id, "makespan", 500, 700, 440, 560, -0.29, "2 permits are fewer"),
    )
    metrics = (CheckedMetric("makespan", 2, -0.165, 0.165, 0.27, 0.29, 0.5, "fair"),)
    weak = (WeakPlace("permits 2", "makespan", 1, 0.29, 0.165, 0.0),)
    plain = CheckedPrediction(
        make_prediction(), values, metrics, weak, "fair", "tides (4567ef01)", False
    )
    return replace(plain, **fields)


def make_curves(**fields: Any) -> TwinCurves:
    """Return the curves of a twin with one point at 1, 2 and 3 in flight."""
    pace = FittedCurve(((1.0, 0.02), (2.0, 0.03), (3.0, 0.04)), 3, ((1.0, 0.02), (3.0, 0.04)),
                       ((3.0, 0.04), (5.0, 0.06)))  # fmt: skip
    flat = FittedCurve(((1.0, 0.5), (2.0, 0.6)), 900, ((1.0, 0.5), (2.0, 0.5)),
                       ((2.0, 0.5), (3.0, 0.5)))  # fmt: skip
    prompts = FittedCurve(((60.0, 0.5), (900.0, 0.6)), 2, ((60.0, 0.5), (900.0, 0.55)),
                          ((900.0, 0.55), (1100.0, 0.56)))  # fmt: skip
    lengths = LengthCounts("research", "answer", 100.0, 0.5, (50.0, 100.0, 200.0), (3, 5), (0, 2),
                           (3.5, 4.5))  # fmt: skip
    parts = (
        PartText("pace", "20 ms a token", "3 attempts", ("the pace above 3 in flight",)),
        PartText("time to first token", "500 ms", "2 attempts", ()),
        PartText("lengths, research", "answer 100 tokens", "8 answers", ()),
        PartText("concurrency cap", "2", "4 refusals", ()),
        PartText("fault server_error", "5 %", "7 attempts failed like this", ("rarer faults",)),
    )
    plain = TwinCurves(
        1_234, 5, True, pace, flat, prompts, None, (lengths,),
        (LimitCounts(None, None, (6, 5, 0), (0, 0, 4), 2),), parts, "not fitted: tool calls",
    )  # fmt: skip
    return replace(plain, **fields)
