"""Fits the time to first token: its distribution, its growth with prompt and load, and slots.

With `slots`, requests queue, first come, first served. When the k-th request gets its slot follows
from when those before it left, so each number of slots says how long each request waited. The
number under which the times to first token are likeliest is taken, if they are much likelier than
without a queue. Both may grow with those that wait and those in service, as a time that grows with
the load looks like a queue otherwise.

A request that the client broke off before its first token waited at least so long: the loser of a
hedge, or one that a deadline cut.

If reading prompts costs time of the server (`PaceFit.reads`), the fit is of the wait before
a prompt is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from harness.twin.curves import fit_rising, hats, knots_up_to
from harness.twin.in_flight import active_before
from harness.twin.observations import BROKEN_OFF, Flags, Floats, Integers, Observations
from harness.twin.pace_fit import PaceFit, batches_of

_LEAST = 10
"""Observations at a number in flight, or in all, below which no growth is told."""
_SURE = 3.5
"""Standard errors that a growth has to differ from 0 by."""
_CHANCE = 1e-4
"""A growth that chance gives as often is none."""
_GROWS = 1.15
"""A factor below this is no growth."""
_QUEUED = 20
_LIKELIER, _LIKELIER_EACH = 15.0, 0.2
"""By how much the logarithm of the likelihood is larger with slots than without: in all, and for
each request that waited for a slot.
"""
_ODD = 4.0
"""Standard deviations beyond which a time is as likely as one that is so far off."""
_LEAST_SIGMA = 1e-3
_UNSURE = 0.3
"""The share of a wait that may be that for other prompts to be read."""
_LEAST_WAIT = 0.05
"""The share of the time to first token that is at least not spent reading prompts."""
_EARLY = 0.01
"""The share of the requests that may have text before a slot was free."""
_MOST_IN_QUEUE = 50_000
_TURNS = 4
_FAR = 2.0
"""Standard deviations beyond which a time counts as if it were so far off."""
_SMOOTHING = 0.1
_SILENT = 3.0
"""Standard deviations that a request waits at most if it would have had a first token: a server may
also say nothing, whatever the time is to its first tokens."""
_MOST_ROUNDS = 40
_SETTLED = 1e-3
_GOLDEN = (5**0.5 - 1) / 2
_Points: TypeAlias = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TtftFit:
    """`median` and `sigma` of one request alone; `per_1k` input tokens, 0 if not told.

    `growth` and `growth_in_service`: factors of the median, by the number of requests that wait for
    their first token and of all in service, itself included. `slots`: None if no queue was seen.
    `most`: the most in service when a request came. `queued`: the requests that waited for a slot.
    `inputs`: the 5th and 95th percentile of the input tokens. `until_read`: all this is up to the
    reading of the prompt, whose time is a cost of its own. `cut`: the attempts beside `attempts`
    that the client broke off before their first token.
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
    growth_in_service: tuple[tuple[int, float], ...] = ()
    until_read: bool = False
    cut: int = 0


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
    queued = int((starts > seen.sent)[rows].sum())
    waits = seen.first_text - starts
    if pace.reads:
        waits, rows = _until_read(seen, starts, rows, pace)
    inputs = np.maximum(seen.input, 0).astype(np.float64)
    most = active_before(seen.sent[served], seen.served_until[served]).max() + 1
    low, high = np.percentile(inputs[rows], [5, 95])
    is_cut = served & seen.has_outcome(*BROKEN_OFF) & np.isnan(seen.first_text)
    if is_cut.any():
        inputs[is_cut] = _inputs_of_prompts(seen, rows)[is_cut]
        waits[is_cut] = _least_waits(seen, starts, inputs, pace)[is_cut]
        is_cut &= waits > 0
    waiting, in_service = (np.minimum(count, slots or len(seen)) for count in _load(seen, served))
    every = _Waits(seen.sent, waits, inputs, waiting, in_service, seen.prompt)
    observed = every.take(rows)
    found = _distribution(observed, seen.sent)
    if is_cut.any():
        found = _with_cut_waits(observed, every.take(is_cut), found, seen.sent)
    return TtftFit(
        found.median, found.sigma, found.per_1k, found.per_1k_error, found.growth, slots,
        int(rows.sum()), queued, int(most), (float(low), float(high)), found.growth_in_service,
        pace.reads, int(is_cut.sum()),
    )  # fmt: skip


@dataclass(frozen=True)
class _Waits:
    """Requests with the seconds that each waited for its first token, and its load.

    `waiting` and `in_service`: how many waited for their first token and were in service when it
    came, itself included.
    """

    sent: Floats
    seconds: Floats
    inputs: Floats
    waiting: Integers
    in_service: Integers
    prompt: Integers

    def __len__(self) -> int:
        return len(self.sent)

    def take(self, rows: Flags) -> _Waits:
        """Return some of the requests."""
        return _Waits(*(column[rows] for column in vars(self).values()))

    def and_others(self, others: _Waits) -> _Waits:
        """Return these requests, then the others."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return _Waits(*(np.concatenate(pair) for pair in pairs))


class _Distribution(NamedTuple):
    """The keys of `TtftFit` that are fitted to waits."""

    median: float
    sigma: float
    per_1k: float
    per_1k_error: float | None
    growth: _Points
    growth_in_service: _Points


def _distribution(waits: _Waits, sent: Floats, *, by_prompt: bool = True) -> _Distribution:
    """Return the distribution of waits. `sent`: when each request of the runs was sent.

    `by_prompt`: whether it may grow with the prompt.
    """
    seconds, inputs, waiting, prompt = waits.seconds, waits.inputs, waits.waiting, waits.prompt
    alone = _alone(sent, waits.sent, seconds, waiting)
    per_1k, error = 0.0, None
    if by_prompt:
        per_1k, error = _per_1k(
            seconds[alone], inputs[alone], waits.in_service[alone], prompt[alone]
        )
    if not per_1k and by_prompt:
        per_1k, error = _per_1k(seconds, inputs, waiting, prompt)
    logs = _logs_without_prompt(seconds, inputs, per_1k)
    growth_in_service, _ = _growth(
        logs[alone], waits.in_service[alone], _independent(prompt[alone])
    )
    logs = logs - _log_factors(growth_in_service, waits.in_service)
    independent = _independent(prompt) / float(waiting.mean())  # those that wait delay each other
    growth, logs = _growth(logs, waiting, independent)
    # Requests are alone where few are in service, and then by selection; only the growth with those
    # in service, which they alone tell, makes up for that.
    plain = logs[alone] if growth_in_service and alone.sum() >= 3 * _LEAST else logs
    median = float(np.exp(np.median(plain)))
    return _Distribution(median, _sigma(logs), per_1k, error, growth, growth_in_service)


def _logs_without_prompt(seconds: Floats, inputs: Floats, per_1k: float) -> Floats:
    logs: Floats = np.log(np.maximum(seconds - per_1k * inputs / 1000, seconds * 0.02))
    return logs


def _with_cut_waits(
    observed: _Waits, cut: _Waits, found: _Distribution, sent: Floats
) -> _Distribution:
    """Return the distribution of all waits, of which those in `cut` are at least so long.

    Without these the slow requests are missing, so the times are too short. Each one gets a wait
    from the part of the distribution that is beyond what was seen of it, and the distribution is
    fitted again, until both agree (expectation and maximisation, with a drawn value in the place of
    the expected one, so that the spread stays; G. Celeux and J. Diebolt, The SEM algorithm,
    Computational Statistics Quarterly 2, 1985). The draws are evenly spread and the same each time.
    """
    from scipy.special import ndtr, ndtri  # slow import

    # Multiples of the golden ratio, without their whole part, are evenly spread.
    beyond = np.modf((np.arange(len(cut)) + 0.5) * _GOLDEN)[0]
    by_prompt = True
    for _ in range(_MOST_ROUNDS):
        usual = np.log(found.median) + _log_factors(found.growth, cut.waiting)
        usual = usual + _log_factors(found.growth_in_service, cut.in_service)
        sigma = max(found.sigma, _LEAST_SIGMA)
        far = (_logs_without_prompt(cut.seconds, cut.inputs, found.per_1k) - usual) / sigma
        is_late = far < _SILENT
        drawn = -ndtri(ndtr(-far[is_late]) * (1 - beyond[is_late]))
        late = cut.take(is_late)
        prompts = found.per_1k * late.inputs / 1000
        late = replace(late, seconds=np.exp(usual[is_late] + sigma * drawn) + prompts)
        before = found
        found = _distribution(observed.and_others(late), sent, by_prompt=by_prompt)
        if not found.per_1k:  # what is not clear each time is no cost, so that the rounds settle
            by_prompt, found = False, found._replace(per_1k_error=before.per_1k_error)
        moved = abs(np.log(found.median / before.median)) + abs(found.sigma - before.sigma)
        if moved < _SETTLED:
            break
    return found


def _inputs_of_prompts(seen: Observations, rows: Flags) -> Floats:
    """Return the input tokens that each prompt had in one of the rows; their median otherwise.

    An attempt that was cut short has no usage.
    """
    known = np.zeros(int(seen.prompt.max()) + 1)
    np.maximum.at(known, seen.prompt[rows], seen.input[rows])
    usual = float(np.median(np.maximum(seen.input[rows], 0)))
    inputs: Floats = np.where(known > 0, known, usual)[seen.prompt]
    return np.where(seen.input > 0, seen.input, inputs)


def _least_waits(seen: Observations, starts: Floats, inputs: Floats, pace: PaceFit) -> Floats:
    """Return how long each attempt waited until it ended, without the reading of its prompt."""
    waits: Floats = seen.served_until - starts
    if pace.reads:
        waits = waits - inputs * (pace.per_1k_prompt / 1000) - pace.per_batch
    return waits


def _until_read(
    seen: Observations, starts: Floats, rows: Flags, pace: PaceFit
) -> tuple[Floats, Flags]:
    """Return the seconds until each prompt is read, and of which rows they are known.

    They are not if other prompts seem to be read then: the request may have waited for these.
    """
    first = seen.first_text
    took = seen.read_input.astype(np.float64) * (pace.per_1k_prompt / 1000)
    waits = np.full(len(seen), np.nan)
    begun = _latest_beginnings(first[rows], took[rows], pace)
    waits[rows] = begun - starts[rows]
    others = (first - took)[rows] - pace.per_batch - begun
    known = rows.copy()
    known[rows] = (waits[rows] > 0) & (others <= _UNSURE * waits[rows])
    if known.sum() >= _LEAST:
        return waits, known
    return np.maximum(waits, (first - starts) * _LEAST_WAIT), rows


def _latest_beginnings(first_text: Floats, took: Floats, pace: PaceFit) -> Floats:
    """Return the latest time at which the batch of each prompt can have been begun.

    `took`: the seconds that reading each prompt takes, besides its batch.
    """
    batch = batches_of(first_text, pace.step)
    ends = np.full(int(batch.max()) + 1, np.inf)
    np.minimum.at(ends, batch, first_text)
    lengths = pace.per_batch + np.bincount(batch, took)
    after = np.cumsum(lengths[::-1])[::-1]  # the time to read it and all that follow
    latest = np.minimum.accumulate((ends + after - lengths)[::-1])[::-1]
    begun: Floats = (latest - after)[batch]
    return begun


def _load(seen: Observations, served: Flags) -> tuple[Integers, Integers]:
    """Return how many wait for their first token, and how many are in service, with each one."""
    text = np.where(np.isnan(seen.first_text), seen.served_until, seen.first_text)
    waiting, in_service = np.ones(len(seen), np.int64), np.ones(len(seen), np.int64)
    waiting[served] += active_before(seen.sent[served], text[served])
    in_service[served] += active_before(seen.sent[served], seen.served_until[served])
    return waiting, in_service


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
    some = np.zeros(len(seen), np.bool_)
    some[np.flatnonzero(served)[:_MOST_IN_QUEUE]] = True
    queue = _Queue.of(seen, np.flatnonzero(served))
    found = _best_slots(_Queue.of(seen, np.flatnonzero(some)), first, _load(seen, some))
    if found is not None:
        began = queue.starts(found)
        text = first[queue.rows]
        starts[queue.rows] = np.where(np.isnan(text), began, np.minimum(began, text - 1e-9))
    return found, starts


def _best_slots(queue: _Queue, first_text: Floats, load: tuple[Integers, Integers]) -> int | None:
    """Return the number of slots under which the times to first token are likeliest.

    `load`: how many wait for their first token, and how many are in service, with each request.
    """
    sent, first = queue.sent, first_text[queue.rows]
    with_text = ~np.isnan(first)
    active = active_before(sent, queue.left)
    waiting, in_service = (number[queue.rows][with_text] for number in load)
    plain = _likelihood((first - sent)[with_text], waiting, in_service)
    best, found = 0.0, None
    for slots in range(1, int(active.max(initial=0)) + 1):
        if int((active >= slots).sum()) < _QUEUED:
            break
        began = queue.starts(slots)
        rest, queued = (first - began)[with_text], int((began > sent).sum())
        if float((rest <= 0).mean()) > _EARLY or queued < _QUEUED:
            continue  # text before its slot: there are more slots
        likelier = -plain + _likelihood(
            rest, np.minimum(waiting, slots), np.minimum(in_service, slots)
        )
        if likelier > max(best, _LIKELIER, _LIKELIER_EACH * queued):
            best, found = likelier, slots
    return found


def _likelihood(times: Floats, waiting: Integers, in_service: Integers) -> float:
    """Return the logarithm of the likelihood of log-normal times that grow with the load."""
    if len(times) < _LEAST:
        return 0.0
    logs = np.log(np.maximum(times, 1e-9))
    usual, spread = float(np.median(logs)), 1.5 * _ODD * max(_sigma(logs), _LEAST_SIGMA)
    logs = np.clip(logs, usual - spread, usual + spread)
    columns = np.concatenate(
        [hats(_told(busy), int(busy.max()))[busy] for busy in (waiting, in_service)], axis=1
    )
    # The columns of each number sum to 1, so only a weak pull to 0 decides between them.
    squares = columns.T @ columns + _SMOOTHING / 100 * np.eye(columns.shape[1])
    rest = logs - columns @ np.linalg.solve(squares, columns.T @ logs)
    sigma = max(_sigma(rest), _LEAST_SIGMA)
    odd = np.minimum(np.abs(rest) / sigma, _ODD)
    return -float(np.sum(logs + odd**2 / 2)) - len(logs) * float(np.log(sigma))


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

    What the load explains does not count. The error allows for equal prompts that took equally
    long in every cell.
    """
    if len(wait) < 3 * _LEAST or np.ptp(inputs) == 0:
        return 0.0, None
    columns = hats(_told(busy), int(busy.max()))[busy]
    usual = np.maximum(wait - _without(columns, wait), float(wait.min()))
    columns = columns / usual[:, None]  # times vary as much as they are long
    wait, inputs = wait / usual, inputs / usual
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


class _Growth(NamedTuple):
    """Factors of the median by a number of requests, none if it does not grow.

    `rest`: the logarithms without them.
    """

    points: _Points
    rest: Floats


def _alone(every: Floats, sent: Floats, waits: Floats, waiting: Integers) -> Flags:
    """Return which requests came while none waited, and had none come soon after.

    `every`: when each request of the runs was sent, `sent` when these were.

    These show what the number in service does. Requests that come together hold each other up, also
    the first of them, and they come together most where few are in service yet.
    """
    others = np.sort(every)
    soon = sent + float(np.median(waits))
    after = np.searchsorted(others, soon, "right") - np.searchsorted(others, sent, "right")
    alone: Flags = (waiting == 1) & (after == 0)
    return alone


def _log_factors(points: _Points, busy: Integers) -> Floats:
    """Return the logarithm of the factor of each request."""
    if not points:
        return np.zeros(len(busy))
    knots, factors = zip(*points, strict=True)
    logs: Floats = np.log(np.interp(busy, knots, factors))
    return logs


def _convex_growth(logs: Floats, columns: Floats, knots: Integers, medians: Floats) -> Floats:
    """Return the factors of a curve that becomes ever steeper, as waiting does with the load.

    `medians`: the logarithms of the medians at the knots, to tell what is far off.
    """
    usual = columns @ medians
    spread = _FAR * _sigma(logs - usual)
    times = np.exp(np.clip(logs, usual - spread, usual + spread))
    weight = np.exp(-usual)
    for _ in range(_TURNS):
        found, _ = fit_rising(
            columns * weight[:, None], times * weight, knots, _SMOOTHING, is_convex=True
        )
        weight = 1 / np.maximum(columns @ found, float(times.min()))
    factors: Floats = found / found[0]
    return factors


def _independent(prompt: Integers) -> float:
    """Return the share of attempts that count: equal prompts may have taken equally long."""
    return len(np.unique(prompt)) / max(len(prompt), 1)


def _growth(logs: Floats, busy: Integers, independent: float) -> _Growth:
    """Return how the median grows with a number of requests.

    `independent`: the share of the times that counts in tests.
    """
    from scipy.special import fdtrc  # slow import

    if len(logs) < 2 * _LEAST:
        return _Growth((), logs)
    knots = _told(busy)
    if len(knots) < 2:
        return _Growth((), logs)
    columns = hats(knots, int(busy.max()))[busy]
    low = float(logs.min())  # so that every value is above 0
    found, _ = fit_rising(columns, logs - low, knots, _SMOOTHING)
    factors = np.exp(found - found[0])
    flat, rest = (
        float(np.sum(each**2)) for each in (logs - logs.mean(), logs - low - columns @ found)
    )
    freedom = len(logs) - len(knots)
    if freedom < _LEAST or factors.max() < _GROWS or rest == 0:
        return _Growth((), logs)

    def is_chance(more: float) -> bool:
        """Return whether chance gives squares that are larger than `rest`."""
        ratio = (more - rest) / (len(knots) - 1) / (rest / freedom)
        return bool(fdtrc(len(knots) - 1, freedom, ratio * independent) > _CHANCE)

    if is_chance(flat):
        return _Growth((), logs)
    convex = _convex_growth(logs, columns, knots, found + low)
    left = logs - np.log(columns @ convex)
    if convex.max() >= _GROWS and is_chance(float(np.sum((left - left.mean()) ** 2))):
        factors = convex
    points = tuple(zip(knots.tolist(), factors.tolist(), strict=True))
    return _Growth(points, logs - _log_factors(points, busy))
