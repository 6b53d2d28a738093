"""Fits to providers with the shape of vLLM on a GPU: contexts and prompts slow the decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.store.column_reader import read_columns
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_parts import fitted_parts
from harness.twin.observations import observe
from harness.twin.profile_text import TwinHead, twin_text
from tests.twin.providers import play, write_run

SEEDS = (1, 2)
GPU: dict[str, Any] = {
    "ttft": {
        "median": "15ms", "sigma": 0.3, "per_1k_input_tokens": "5ms",
        "growth_in_service": [
            {"requests": 1, "factor": 1}, {"requests": 16, "factor": 1.2},
            {"requests": 64, "factor": 3},
        ],
    },
    "itl_a": "3.4ms", "itl_per_1k_context": "42us", "prefill_per_1k_input_tokens": "13ms",
    "prefill_per_batch": "6ms",
    "reasoning_tokens": {"median": 1, "sigma": 0},
    "answer_tokens": {"median": 240, "sigma": 0.35},
    "phases": {
        "decompose": {"answer_tokens": {"median": 190, "sigma": 0.03}},
        "research": {"cached_share": 0.8},
    },
}  # fmt: skip
LOW: dict[str, Any] = {"permits": (1, 2, 4, 8), "workflows": 4, "in_flight": 2, "repeats": 2}
HIGH: dict[str, Any] = {"workflows": 36, "in_flight": 20, "repeats": 2, "topics": 36}


def fitted(seed: int, *permits: int) -> ProviderFit:
    """Return a fit to a run with few permits and one with these."""
    runs = [play(GPU, seed=seed, **LOW), play(GPU, seed=seed, permits=permits, **HIGH)]
    return fit_observations(observe(runs))


def made(folder: Path, provider: dict[str, Any] | Path, permits: int) -> tuple[float, float]:
    """Return output tokens a second and the median time to first token with so many permits."""
    profile = provider if isinstance(provider, Path) else None
    keys = provider if isinstance(provider, dict) else {}
    folder.mkdir()
    run = write_run(folder, keys, seed=9, permits=(permits,), profile=profile, **HIGH)
    seen = observe([read_columns(run)])
    rates = []
    for trial in range(int(seen.trial.max()) + 1):
        mine = seen.trial == trial
        seconds = float(seen.done[mine].max() - seen.sent[mine].min())
        rates.append(seen.output[mine].sum() / seconds)
    return float(np.mean(rates)), float(np.median(seen.first_text - seen.sent))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("permits", [16, 64])
def test_what_contexts_and_prompts_cost_is_found_apart_from_the_number_in_flight(
    permits: int, seed: int
) -> None:
    pace = fitted(seed, permits).pace
    assert pace.per_1k_context == pytest.approx(42e-6, rel=0.05)
    assert pace.per_1k_prompt == pytest.approx(13e-3, rel=0.05)
    assert pace.per_batch == pytest.approx(6e-3, rel=0.1)
    assert all(itl == pytest.approx(3.4e-3, rel=0.02) for itl in pace.itl)


@pytest.mark.parametrize(
    ("fitted_to", "predicted", "rate", "first_token"), [(16, 64, 0.08, None), (64, 16, 0.05, 0.15)]
)
def test_a_load_that_was_not_seen_is_predicted(
    fitted_to: int, predicted: int, rate: float, first_token: float | None, tmp_path: Path
) -> None:
    profile = tmp_path / "twin.toml"
    head = TwinHead("twin", "a fit", "a run", "2026-11-27")
    profile.write_text(twin_text(fitted_parts(fitted(1, fitted_to)), head))
    theirs = made(tmp_path / "provider", GPU, predicted)
    mine = made(tmp_path / "twin", profile, predicted)
    assert mine[0] == pytest.approx(theirs[0], rel=rate)
    if first_token is not None:
        assert mine[1] == pytest.approx(theirs[1], rel=first_token)


CURVES: dict[str, tuple[dict[str, Any], float]] = {
    "flat": ({}, 20e-3),
    "linear": ({"itl_a": "4ms", "itl_b": "2ms"}, 68e-3),
    "quadratic": ({"itl_a": "4ms", "itl_c": "50us"}, 55.2e-3),
    "knee": (
        {
            "itl_points": [
                {"requests": 1, "itl": "10ms"}, {"requests": 8, "itl": "11ms"},
                {"requests": 16, "itl": "30ms"},
            ]
        },
        68e-3,
    ),
    "saturating": (
        {
            "itl_points": [
                {"requests": 1, "itl": "10ms"}, {"requests": 6, "itl": "20ms"},
                {"requests": 16, "itl": "22ms"},
            ]
        },
        25.2e-3,
    ),
}  # fmt: skip


TOLERANCE = {"knee": 0.3, "saturating": 0.1}


@pytest.mark.parametrize("name", CURVES)
def test_the_pace_at_twice_the_range_follows_the_law_or_the_last_line(name: str) -> None:
    provider, beyond = CURVES[name]
    fit = fit_observations(observe([play(provider, permits=(1, 4, 16))]))
    pace = fit.pace
    assert (pace.per_1k_context, pace.per_1k_prompt) == (0, 0)
    slope = max(pace.slope or 0.0, pace.last_slope)
    assert pace.requests[-1] == 16
    assert pace.itl[-1] + 16 * slope == pytest.approx(beyond, rel=TOLERANCE.get(name, 0.05))
    (part,) = [part for part in fitted_parts(fit) if part.name == "pace"]
    assert ("a + b n + c n²" in part.unknown[0]) == (name == "quadratic")
    assert ("requests = 32" in part.keys["itl_points"]) == (name == "quadratic")


def test_phases_whose_prompts_begin_alike_have_their_own_cached_share() -> None:
    parts = {part.name: part for part in fitted_parts(fitted(1, 16))}
    assert float(parts["lengths, research"].keys["cached_share"]) == pytest.approx(0.8, abs=0.02)
    assert float(parts["lengths, synthesize"].keys["cached_share"]) == 0


def test_prompts_that_cost_nothing_are_not_in_the_profile() -> None:
    parts = fitted_parts(fit_observations(observe([play({"itl_b": "1ms"}, permits=(1, 4, 16))])))
    assert "prompts" not in [part.name for part in parts]
