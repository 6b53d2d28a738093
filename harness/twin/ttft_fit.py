"""Fits the time to first token: its distribution, its growth with prompt and load, and slots.

With `slots`, requests queue, first come, first served. When the k-th request gets its slot follows
from when those before it left, so each number of slots says how long each request waited. The
number under which the rest of the time to first token varies least is taken, if it explains most
of what varies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.curves import fit_rising, hats, knots_up_to
from harness.twin.in_flight import active_before
from harness.twin.observations import Flags, Floats, Integers, Observations
from harness.twin.pace_fit import PaceFit

_LEAST = 10
"""Observations at a number in flight, or in all, below which no growth is told."""
_SURE = 3.5
"""Standard errors that a growth has to differ from 0 by."""
_CHANCE = 1e-4
"""A growth that chance gives as often is none."""
_GROWS = 1.15
"""A factor below this is no growth."""
_QUEUED = 20
_EXPLAINS = 0.6
"""Slots are found if the spread with them is below this share of that without them."""
_EARLY = 0.01
"""The share of the requests that may have text before a slot was free."""
_MOST_IN_QUEUE = 50_000
_SMOOTHING = 0.1


@dataclass(frozen=True)
class TtftFit:
    """`median` and `sigma` of one request alone; `per_1k` input tokens, 0 if not told.

    `growth`: factors of the median, by the number of requests that wait for their first token,
    itself included. `slots`: None if no queue was seen. `most`: the most in service when a request
    came. `queued`: the requests that waited for a slot. `inputs`: the 5th and 95th percentile of
    the input tokens.
    """

    median: float
    sigma: float
    per_1k: float
    per_1k_error: float | None
    growth: tuple[tuple[int, float], ...]
    slots: int | None
    attempts: int
    queued: int
    most: int
    inputs: tuple[float, float]


def fit_ttft(seen: Observations, pace: PaceFit) -> TtftFit | None:
    """Return the time to first token; None if no response has one."""
    if pace.before_text is not None:
        return _of_whole_responses(seen, pace, *pace.before_text)
    served = seen.was_sent & (seen.served_until > seen.sent)
    rows = served & ~np.isnan(seen.first_text) & (seen.first_text > seen.sent)
    rows &= seen.output != 0
    if not rows.any():
        return None
    slots, starts = _slots(seen, served, rows)
    wait = (seen.first_text - starts)[rows]
    queued = int((starts > seen.sent)[rows].sum())
    busy = np.ones(len(seen), np.int64)
    until = np.where(np.isnan(seen.first_text), seen.served_until, seen.first_text)
    busy[served] += active_before(seen.sent[served], until[served])
    busy = np.minimum(busy, slots or len(seen))[rows]
    most = active_before(seen.sent[served], seen.served_until[served]).max() + 1
    inputs = np.maximum(seen.input[rows], 0).astype(np.float64)
    per_1k, error = _per_1k(wait, inputs, busy, seen.prompt[rows])
    rest = np.maximum(wait - per_1k * inputs / 1000, wait * 0.02)
    logs = np.log(rest)
    growth = _growth(logs, busy, seen.prompt[rows])
    if growth:
        knots, factors = zip(*growth, strict=True)
        logs = logs - np.log(np.interp(busy, knots, factors))
    low, high = np.percentile(inputs, [5, 95])
    return TtftFit(
        float(np.exp(np.median(logs))), _sigma(logs), per_1k, error, growth, slots, len(wait),
        queued, int(most), (float(low), float(high)),
    )  # fmt: skip


def _of_whole_responses(seen: Observations, pace: PaceFit, median: float, sigma: float) -> TtftFit:
    rows = seen.ok
    inputs = np.maximum(seen.input[rows], 0)
    low, high = np.percentile(inputs, [5, 95])
    return TtftFit(
        median, sigma, 0.0, None, (), None, int(rows.sum()), 0, pace.most, (float(low), float(high))
    )


def _slots(seen: Observations, served: Flags, rows: Flags) -> tuple[int | None, Floats]:
    """Return the number of slots, and when each attempt got its slot (when sent, without slots)."""
    starts = seen.sent.copy()
    first = np.where(rows, seen.first_text, np.nan)
    queue = _Queue.of(seen, np.flatnonzero(served))
    found = _best_slots(_Queue.of(seen, np.flatnonzero(served)[:_MOST_IN_QUEUE]), first)
    if found is not None:
        began = queue.starts(found)
        text = first[queue.rows]
        starts[queue.rows] = np.where(np.isnan(text), began, np.minimum(began, text - 1e-9))
    return found, starts


def _best_slots(queue: _Queue, first_text: Floats) -> int | None:
    """Return the number of slots under which the rest of the time to first token varies least."""
    sent, first = queue.sent, first_text[queue.rows]
    with_text = ~np.isnan(first)
    active = active_before(sent, queue.left)
    base = _spread(np.log(first - sent)[with_text])
    least, found = base * _EXPLAINS, None
    for slots in range(1, int(active.max(initial=0)) + 1):
        if int((active >= slots).sum()) < _QUEUED:
            break
        began = queue.starts(slots)
        rest = (first - began)[with_text]
        if float((rest <= 0).mean()) > _EARLY or int((began > sent).sum()) < _QUEUED:
            continue  # text before its slot: there are more slots
        spread = _spread(np.log(rest[rest > 0]))
        if spread < least:
            least, found = spread, slots
    return found


@dataclass(frozen=True)
class _Queue:
    """The requests that were served, in the order in which they were sent; trials do not overlap.

    `number`: of each one in its trial, from 0. `begin`: the place of its trial's first departure in
    `departures`, which ascend in each trial.
    """

    rows: Integers
    sent: Floats
    left: Floats
    number: Integers
    begin: Integers
    departures: Floats

    @classmethod
    def of(cls, seen: Observations, rows: Integers) -> _Queue:
        """Return the queue of some attempts."""
        sent, left, trial = seen.sent[rows], seen.served_until[rows], seen.trial[rows]
        begin = np.searchsorted(trial, trial, "left")
        departures = left[np.lexsort((left, trial))]
        return cls(rows, sent, left, np.arange(len(rows)) - begin, begin, departures)

    def starts(self, slots: int) -> Floats:
        """Return when each request gets one of the slots: when enough of those before it left."""
        starts = self.sent.copy()
        waits = self.number >= slots
        place = (self.begin + self.number - slots)[waits]
        starts[waits] = np.maximum(starts[waits], self.departures[place])
        return starts


def _spread(logs: Floats) -> float:
    return float(np.std(logs)) if len(logs) else np.inf


def _sigma(logs: Floats) -> float:
    """Return the standard deviation, from the quartiles and so without far values."""
    if len(logs) < _LEAST:
        return float(np.std(logs))
    tenth, ninetieth = np.percentile(logs, [10, 90])
    return min(2.0, float(ninetieth - tenth) / 2.5631)


def _per_1k(
    wait: Floats, inputs: Floats, busy: Integers, prompt: Integers
) -> tuple[float, float | None]:
    """Return the seconds for each 1,000 input tokens, 0 if that is not told, and the error.

    The error allows for equal prompts that took equally long in every cell.
    """
    if len(wait) < 3 * _LEAST or np.ptp(inputs) == 0:
        return 0.0, None
    most = int(busy.max())
    columns = hats(_told(busy), most)[busy]
    x, y = (_without(columns, values) for values in (inputs / 1000, wait))
    far = np.abs(y - np.median(y)) > 5 * 1.4826 * np.median(np.abs(y - np.median(y))) + 1e-12
    x, y, prompt = x[~far], y[~far], prompt[~far]
    scale = float((x**2).sum())
    if len(x) < 3 * _LEAST or scale < 1e-9:
        return 0.0, None
    slope = float((x * y).sum()) / scale
    together = np.bincount(prompt, x * (y - slope * x))
    error = float(np.sqrt((together**2).sum())) / scale
    return (slope if slope > _SURE * error else 0.0), error


def _without(columns: Floats, values: Floats) -> Floats:
    """Return what of the values the columns do not explain."""
    found, *_ = np.linalg.lstsq(columns, values, rcond=None)
    rest: Floats = values - columns @ found
    return rest


def _told(busy: Integers) -> Integers:
    """Return the knots near which there are enough observations."""
    knots = knots_up_to(int(busy.max()))
    near = hats(knots, int(busy.max()))[busy].sum(axis=0)
    kept = near >= _LEAST
    return knots[kept] if kept.any() else knots[[int(near.argmax())]]


def _growth(logs: Floats, busy: Integers, prompt: Integers) -> tuple[tuple[int, float], ...]:
    """Return factors of the median by the number that wait, none if it does not grow.

    Equal prompts count once in the test: they may have taken equally long in every cell.
    """
    from scipy.special import fdtrc  # slow import

    knots = _told(busy)
    if len(knots) < 2:
        return ()
    columns = hats(knots, int(busy.max()))[busy]
    low = float(logs.min())  # so that every value is above 0
    found, _ = fit_rising(columns, logs - low, knots, _SMOOTHING)
    rest = logs - low - columns @ found
    flat = logs - logs.mean()
    freedom = len(logs) - len(knots)
    explained = float((flat**2).sum() - (rest**2).sum()) / (len(knots) - 1)
    noise = float((rest**2).sum()) / max(freedom, 1)
    factors = np.exp(found - found[0])
    independent = len(np.unique(prompt)) / len(prompt)
    if freedom < _LEAST or factors.max() < _GROWS or noise == 0:
        return ()
    if fdtrc(len(knots) - 1, freedom, explained / noise * independent) > _CHANCE:
        return ()
    return tuple(zip(knots.tolist(), factors.tolist(), strict=True))
