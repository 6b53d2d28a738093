"""Fits the lengths of reasoning and answers by the setting of the phase.

Lengths are log-normal. An answer that max_tokens cut is at least as long as what came: median and
spread are those of the greatest likelihood with such censored lengths. The part of the spread that
prompts about one topic share is that between topics beyond what chance gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.twin.observations import Flags, Floats, Integers, Observations

_LEAST = 8
_ROUNDS = 200

Part = Literal["reasoning", "answer"]


@dataclass(frozen=True)
class LengthFit:
    """A log-normal length; `topic_sigma` None if the records cannot tell it.

    `attempts`: how many lengths there were, `cut` of them by max_tokens. `topics`: how many topics
    have two lengths or more.
    """

    median: float
    sigma: float
    topic_sigma: float | None
    attempts: int
    cut: int
    topics: int


@dataclass(frozen=True)
class SettingLengths:
    """The lengths with one setting; None for no reasoning.

    `reasoning_from`: "usage", or "time": the tokens were not reported, and follow from the share of
    the time. `hidden`: the median of reasoning tokens that were reported and did not come as text.
    `cached_share`: of the input tokens; None if no attempt reports both.
    """

    setting: str
    reasoning: LengthFit | None
    answer: LengthFit
    reasoning_from: Literal["usage", "time"]
    hidden: float | None
    cached_share: float | None


def cut_by_limit(seen: Observations) -> Flags:
    """Return which attempts ended because max_tokens was reached, not by a fault.

    Without max_tokens, those that are as long as the longest of their setting.
    """
    truncated = seen.has_outcome("truncated") & (seen.output > 0)
    longest = np.zeros(max(len(seen.settings), 1), np.int64)
    np.maximum.at(longest, seen.setting[truncated], seen.output[truncated])
    limit = np.where(seen.limit > 0, seen.limit, longest[seen.setting])
    reached: Flags = truncated & (seen.output >= limit * 0.99)
    return reached


def each_length_once(seen: Observations, rows: Flags) -> Flags:
    """Return those of the rows that are no repetition: same question, same lengths.

    The simulated provider gives the same answer in every cell, and so may a real one.
    """
    keys = [column[rows] for column in (seen.prompt, seen.input, seen.output, seen.reasoning)]
    _, first = np.unique(np.stack(keys, axis=1), axis=0, return_index=True)
    kept = np.zeros(len(rows), np.bool_)
    kept[np.flatnonzero(rows)[first]] = True
    return kept


def fit_lengths(seen: Observations) -> tuple[SettingLengths, ...]:
    """Return the lengths of each setting, those with the most attempts first."""
    whole, cut = seen.ok & (seen.output > 0), cut_by_limit(seen)
    once = each_length_once(seen, whole | cut)
    found = []
    for number, name in enumerate(seen.settings):
        rows = once & (seen.setting == number)
        if (rows & whole).any():
            found.append((int(rows.sum()), _of_setting(seen, name, rows, cut)))
    return tuple(one for _, one in sorted(found, key=lambda each: -each[0]))


def pooled_lengths(seen: Observations) -> SettingLengths:
    """Return the lengths of all attempts together."""
    cut = cut_by_limit(seen)
    return _of_setting(seen, "", each_length_once(seen, (seen.ok & (seen.output > 0)) | cut), cut)


def _of_setting(seen: Observations, name: str, rows: Flags, cut: Flags) -> SettingLengths:
    reasoning, answers, source, hidden = shown_lengths(seen)
    thoughts = np.where(rows, reasoning, 0)
    topic = seen.topic
    thinks = rows & (thoughts > 0)
    in_thought = cut & (answers <= 0)
    reasoned = None
    if thinks.sum() >= max(1, 0.5 * rows.sum()):
        reasoned = length_of(thoughts[thinks], in_thought[thinks], topic[thinks])
    has_answer = rows & (answers > 0)
    if not has_answer.any():
        has_answer, answers = rows, np.maximum(answers, 1)
    told = hidden & rows
    return SettingLengths(
        name, reasoned, length_of(answers[has_answer], cut[has_answer], topic[has_answer]), source,
        float(np.median(seen.reasoning[told])) if told.any() else None, _cached_share(seen, rows),
    )  # fmt: skip


def _cached_share(seen: Observations, rows: Flags) -> float | None:
    told = rows & (seen.input > 0) & (seen.cached >= 0)
    if not told.any():
        return None
    return float(np.minimum(seen.cached, seen.input)[told].sum() / seen.input[told].sum())


def shown_lengths(
    seen: Observations,
) -> tuple[Floats, Floats, Literal["usage", "time"], Flags]:
    """Return the tokens of reasoning and answer that came as text, in each attempt.

    Then where those of the reasoning are from, and in which attempts reasoning was hidden.
    """
    reasoning, source, hidden = _reasoning(seen)
    output = np.where(hidden, seen.output - np.maximum(seen.reasoning, 0), seen.output)
    return reasoning, np.maximum(output - reasoning, 0), source, hidden


def _reasoning(seen: Observations) -> tuple[Floats, Literal["usage", "time"], Flags]:
    """Return the reasoning tokens that came as text, where they are from, and what was hidden."""
    hidden = ~seen.has_reasoning_text & (seen.reasoning > 0)
    unreported = seen.has_reasoning_text & (seen.reasoning <= 0) & (seen.output > 0)
    tokens = np.where(seen.has_reasoning_text, np.maximum(seen.reasoning, 0), 0).astype(np.float64)
    if not unreported.any():
        return tokens, "usage", hidden
    whole = np.maximum(seen.last_token - seen.first_text, 1e-9)
    begin = np.where(np.isnan(seen.first_answer), seen.last_token, seen.first_answer)
    share = np.clip((begin - seen.first_text) / whole, 0, 1)
    guessed = np.rint(np.nan_to_num(share) * np.maximum(seen.output, 0))
    return np.where(unreported, guessed, tokens), "time", hidden


def length_of(lengths: Floats, cut: Flags, topic: Integers) -> LengthFit:
    """Return the distribution of lengths, of which those in `cut` are at least so long."""
    logs = np.log(np.maximum(lengths.astype(np.float64), 1))
    mean, sigma, filled = _censored(logs, cut)
    share, topics = _topic_share(filled, topic, sigma)
    total = min(sigma, 2.0)
    own = total if share is None else total * float(np.sqrt(1 - share))
    shared = None if share is None else total * float(np.sqrt(share))
    return LengthFit(
        float(np.exp(min(max(mean, 0.0), np.log(1e6)))), own, shared, len(logs), int(cut.sum()),
        topics,
    )  # fmt: skip


def _censored(logs: Floats, cut: Flags) -> tuple[float, float, Floats]:
    """Return mean, deviation, and the logarithms with the expected value of each that was cut."""
    mean, sigma = float(np.mean(logs)), float(np.std(logs))
    if not cut.any() or cut.all() or sigma == 0:
        return mean, sigma, logs
    from scipy.special import log_ndtr

    filled = logs.copy()
    for _ in range(_ROUNDS):  # expectation and maximisation
        standard = (logs[cut] - mean) / sigma
        hazard = np.exp(-0.5 * standard**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-standard))
        filled[cut] = mean + sigma * hazard
        inner = sigma**2 * (1 + standard * hazard - hazard**2)
        before = mean, sigma
        mean = float(np.mean(filled))
        around = (filled - mean) ** 2
        around[cut] += inner
        sigma = float(np.sqrt(np.mean(around)))
        if abs(mean - before[0]) + abs(sigma - before[1]) < 1e-7:
            break
    return mean, sigma, filled


def _topic_share(logs: Floats, topic: Integers, sigma: float) -> tuple[float | None, int]:
    """Return the share of the variance between topics, None if not told, and their number.

    One-way analysis of variance with groups of unequal size.
    """
    known = topic >= 0
    names, place, counts = np.unique(topic[known], return_inverse=True, return_counts=True)
    topics, total = int((counts > 1).sum()), int(counts.sum())
    if topics < 2 or total < _LEAST or sigma == 0 or total <= len(names):
        return None, topics
    values = logs[known]
    means = np.bincount(place, values) / counts
    within = float(((values - means[place]) ** 2).sum()) / (total - len(names))
    between = float((counts * (means - values.mean()) ** 2).sum()) / (len(names) - 1)
    size = (total - float((counts**2).sum()) / total) / (len(names) - 1)
    shared = max(0.0, (between - within) / size)
    return (shared / (shared + within) if shared + within else 0.0), topics
