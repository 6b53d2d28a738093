"""The time model of the provider: which requests are served, and when each text is due.

The caller passes every time, in integer nanoseconds that never decrease. If slots are limited, a
request takes a slot or queues for one, first come, first served. It then waits for its first chunk
and shares the processor: with n requests decoding, each makes a token every ITL(n + background)
nanoseconds. Virtual work is the number of tokens that a request would have made if it had decoded
all the time; it is the same for all requests. A request that starts at virtual work w makes its
k-th further token at w + k, whatever other requests start or end. With a heap ordered by this
value, each event takes O(log n) (the virtual time of generalised processor sharing: Parekh and
Gallager, IEEE/ACM Transactions on Networking 1(3), 1993).

Two costs are for servers that batch: each token of the context of the requests that decode can add
to the time per token, and a prompt can take time to be read, in which no request makes tokens.
Prompts that come while others are read are read together after them, as one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush, heapreplace

from harness.simulator.pace import Pace
from harness.simulator.rates import Rates
from harness.simulator.wander import Wander

_NEVER = 1 << 63
"""Later than any time: 292 years."""


@dataclass(slots=True, eq=False)
class ServedRequest:
    """One admitted request.

    `wait`: nanoseconds from its slot to its first tokens; None if they never come. `writes`: the
    virtual work, in tokens after the first ones, at which each text is due, in ascending order.
    `patience`: nanoseconds between keep-alives until its first write; None for none. `holds`: it
    stays in service after its last write until it is cancelled. `first_at`: the time of its first
    tokens, or of the end of its wait if its prompt has to be read then; None while unknown.
    `origin`: the total virtual work at its first tokens, as `Model.rates` counts it; `place`: the
    length of this history then. `context`: the tokens of its context while it decodes. `reading`:
    nanoseconds to read its prompt; None if it need not be read, or once that has begun.
    """

    wait: int | None
    writes: Sequence[int]
    patience: int | None
    holds: bool
    context: int = 0
    reading: int | None = None
    first_at: int | None = None
    start: float = 0.0
    origin: float = 0.0
    place: int = 0
    next_write: int = 0
    decoding: bool = False
    has_slot: bool = False
    gone: bool = False


class Model:
    """Slots, their queue, and processor sharing. `rates`: records the history of the speed.

    `per_context`: nanoseconds that each token of the contexts adds to the time per token.
    `per_batch`: nanoseconds that reading a batch of prompts takes besides its prompts.

    `active`: the requests in service, from arrival to their last text. `decoding`: those of them
    that are making tokens. `ended`: if the caller sets a list, each request is added to it when it
    ends, with the time.
    """

    def __init__(
        self,
        pace: Pace,
        slots: int | None = None,
        rates: Rates | None = None,
        per_context: float = 0.0,
        per_batch: int = 0,
    ) -> None:
        self._itl_of = cache(pace.itl)
        self._per_context = per_context
        self._per_batch = per_batch
        self._context = 0  # tokens, of all requests that are decoding
        self._reading_until = 0
        self._next_batch: list[ServedRequest] = []  # the batch after the one that is being read
        self._reader = ServedRequest(None, (), None, False)  # its moments: the end of a batch
        self._rates = rates
        self._wander: Wander | None = None
        self._zero = 0  # the start of its path
        self._earlier = 0.0  # virtual work of earlier busy periods
        self._itl = pace.itl(0)
        self._work = 0.0  # virtual work at the time `_since`, in the future while a prompt is read
        self._since = 0
        self.active = 0
        self.decoding = 0
        self._free = slots
        self._queue: deque[ServedRequest] = deque()
        self._count = 0  # breaks ties by order of arrival
        self._moments: list[tuple[int, int, ServedRequest]] = []  # ends of waits, and keep-alives
        self._texts: list[tuple[float, int, ServedRequest]] = []  # next text of each decoding job
        self._out: dict[ServedRequest, list[int]] = {}
        self._out_at = 0
        self._next, self._next_is_text = _NEVER, False  # kept, because it is asked for often
        self._turn = _NEVER  # the next change of a speed that wanders
        self.ended: list[tuple[int, ServedRequest]] | None = None

    @property
    def waiting(self) -> int:
        """The requests of `active` that wait for a slot."""
        return sum(not job.gone for job in self._queue)

    def let_wander(self, now: int, wander: Wander) -> None:
        """Multiply the time per token by a factor that changes, from the first arrival on."""
        self._zero, self._wander = now, wander

    def arrive(
        self,
        now: int,
        wait: int | None,
        writes: Sequence[int],
        patience: int | None = None,
        *,
        holds: bool = False,
        needs_slot: bool = True,
        context: int = 0,
        reading: int | None = None,
    ) -> ServedRequest:
        """Admit a request. Its first chunk is due `wait` after it gets a slot.

        With `reading`, its prompt is read after the wait, and the first chunk is due then.
        """
        self.settle(now)
        self.active += 1
        job = ServedRequest(wait, writes, patience, holds, context, reading)
        if self._free is None or not needs_slot:
            self._begin(now, job)
        elif self._free > 0:
            self._free -= 1
            job.has_slot = True
            self._begin(now, job)
        else:
            self._queue.append(job)
        if patience is not None:
            self._push_moment(now + patience, job)
        return job

    def cancel(self, now: int, job: ServedRequest) -> None:
        """Remove a request; nothing more is due for it."""
        self.settle(now)
        if not job.gone:
            self._leave(now, job)
            self._find_next()
        self._out.pop(job, None)

    def work_done(self, now: int, job: ServedRequest) -> float | None:
        """Return the virtual work of a request since its first tokens; None before them.

        For a request that has ended, return the work of its last text.
        """
        self.settle(now)
        if job.decoding and not job.gone:
            return self._work + max(now - self._since, 0) / self._itl - job.start
        return float(job.writes[job.next_write - 1]) if job.next_write else None

    def next_due(self) -> int | None:
        """Return the time of the next event; None if there is none."""
        if self._out:
            return self._out_at
        return None if self._next == _NEVER else self._next

    def pop_due(self, now: int) -> dict[ServedRequest, list[int]]:
        """Return for each request the times until `now` at which text was due.

        An empty list means a keep-alive. The requests are in the order of their first event.
        """
        self.settle(now)
        out, self._out = self._out, {}
        return out

    def settle(self, now: int) -> None:
        """Process all events until `now`; `pop_due` returns them later."""
        while self._next <= now:
            if self._next_is_text:
                self._at_text(self._next)
            elif self._next == self._turn:
                self._share(self._turn, self.decoding)
            else:
                at, _, job = heappop(self._moments)
                self._at_moment(at, job)
            self._find_next()

    def _find_next(self) -> None:
        """Find the next event. At equal times, texts come first."""
        moments, texts = self._moments, self._texts
        while moments and moments[0][2].gone:
            heappop(moments)
        while texts and texts[0][2].gone:
            heappop(texts)
        self._next, self._next_is_text = (moments[0][0] if moments else _NEVER), False
        if texts:
            at = self._since + max(round((texts[0][0] - self._work) * self._itl), 0)
            if at <= self._next:
                self._next, self._next_is_text = at, True
        if self._wander is not None:
            self._turn = self._next_turn(self._wander)
            if self._turn < self._next:
                self._next, self._next_is_text = self._turn, False

    def _next_turn(self, wander: Wander) -> int:
        """Return when the speed changes next; it is not wanted while nothing is decoding."""
        if not self.decoding:
            return _NEVER
        return self._zero + wander.next_change(self._since - self._zero)

    def _at_text(self, at: int) -> None:
        """Note the next text. After its last text, a request leaves, unless it holds."""
        _, count, job = self._texts[0]
        out = self._out
        if job in out:
            out[job].append(at)
        else:
            self._out_at = self._out_at if out else at
            out[job] = [at]
        job.next_write = write = job.next_write + 1
        if write < len(job.writes):
            heapreplace(self._texts, (job.start + job.writes[write], count, job))
            return
        heappop(self._texts)
        if job.holds:
            self._stop_decoding(at, job)
        else:
            self._leave(at, job)

    def _at_moment(self, at: int, job: ServedRequest) -> None:
        """Start decoding if the wait is over; otherwise send a keep-alive, if no text came yet."""
        if job.next_write:
            return
        if not job.decoding and job.first_at is not None and at >= job.first_at:
            if job.reading is not None:
                self._read_later(at, job)
                return
            self._context += job.context
            self._share(at, self.decoding + 1)
            if self._rates is not None:
                job.place = len(self._rates)
            job.decoding = True
            job.start = self._work
            job.origin = self._earlier + self._work
            self._count += 1
            heappush(self._texts, (job.start + job.writes[0], self._count, job))
            if not job.writes[0]:
                self._at_text(at)  # all texts before this one have come
        elif job is self._reader:
            if self._next_batch and at >= self._reading_until:
                self._read(at)
        else:
            if not self._out:
                self._out_at = at
            self._out.setdefault(job, [])
            assert job.patience is not None, "a keep-alive is due"
            self._push_moment(at + job.patience, job)

    def _read_later(self, at: int, job: ServedRequest) -> None:
        """Read the prompt of a request now, or together with others after those being read."""
        job.first_at = None
        self._next_batch.append(job)
        if at >= self._reading_until:
            self._read(at)
        elif len(self._next_batch) == 1:
            self._push_moment(self._reading_until, self._reader)

    def _read(self, at: int) -> None:
        """Read the prompts that wait for it; until then, no token is made."""
        batch = [job for job in self._next_batch if not job.gone]
        self._next_batch.clear()
        if not batch:
            return
        self._reading_until = end = at + self._per_batch + sum(job.reading or 0 for job in batch)
        for job in batch:
            job.reading, job.first_at = None, end
            self._push_moment(end, job)
        self._share(at, self.decoding)

    def _begin(self, at: int, job: ServedRequest) -> None:
        if job.wait is not None:
            job.first_at = at + job.wait
            self._push_moment(job.first_at, job)

    def _leave(self, at: int, job: ServedRequest) -> None:
        job.gone = True
        self.active -= 1
        if self.ended is not None:
            self.ended.append((at, job))
        if job.decoding:
            self._stop_decoding(at, job)
        if job.has_slot:
            self._pass_on_slot(at)

    def _stop_decoding(self, at: int, job: ServedRequest) -> None:
        job.decoding = False
        self._context -= job.context
        self._share(at, self.decoding - 1)

    def _pass_on_slot(self, at: int) -> None:
        while self._queue:
            successor = self._queue.popleft()
            if not successor.gone:
                successor.has_slot = True
                self._begin(at, successor)
                return
        assert self._free is not None
        self._free += 1

    def _share(self, at: int, decoding: int) -> None:
        """Share the processor among `decoding` requests from `at` on."""
        idle, before = self.decoding == 0, self._itl
        if idle:
            self._earlier += self._work
            self._work = 0.0  # idle: restart at 0, where floats are most precise
        elif at > self._since:
            self._work += (at - self._since) / before
        self._since = at if at > self._reading_until else self._reading_until
        self.decoding = decoding
        itl = self._itl_of(decoding)
        if self._per_context:
            itl += self._per_context * self._context
        if self._wander is not None:
            itl *= self._wander.factor(at - self._zero)
        self._itl = itl
        if self._rates is not None and (idle or itl != before or self._since > at):
            self._rates.note(self._earlier + self._work, self._since, itl)

    def _push_moment(self, at: int, job: ServedRequest) -> None:
        self._count += 1
        heappush(self._moments, (at, self._count, job))
        if at < self._next:
            self._next, self._next_is_text = at, False
