"""The interpreter for virtual time: it runs programs side by side, and jumps instead of waiting.

A task is a running program. Tasks that can continue stand in a queue, in the order in which they
were woken. When the queue is empty, the clock jumps to the next event: the provider's, or the end
of a task's wait, which stand in a heap. At equal times, the provider's events come first. Nothing
waits in real time, so an effect that has its result at once costs about as much as a function call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar, assert_never

from harness.engine.branches import Branch, Course, Fork
from harness.engine.budget_gate import Entry, Gate, after_wait
from harness.engine.deadlines import TOO_LATE, UNWANTED
from harness.engine.effects import (
    NO_EVENT_LOOP,
    Acquire,
    Cancelled,
    Emit,
    EmitRecord,
    FanOut,
    Finished,
    Foreign,
    Grant,
    Now,
    Park,
    Program,
    Release,
    Ring,
    RunHosted,
    Send,
    Sleep,
    no_event_loop,
    unsent,
)
from harness.engine.ledger import Amount
from harness.engine.permits import Turnstile
from harness.engine.waiting import Turn, Waits, sleeping
from harness.records.failures import CANCELLED
from harness.simulator.virtual.clock import DeadlockError, VirtualClock
from harness.simulator.virtual.provider import Flight, VirtualProvider

_T = TypeVar("_T")

_STALE = 64
"""The number of outdated times above which the heap is cleaned, if they are most of it."""

_WAITS: Any = object()
"""Stands for the result of an effect that has none yet."""


class _Task:
    """A running program and what it waits for.

    `effect`: the effect that it waits for. `flight`, `worst`, `waited`: its attempt in flight, what
    that reserved, and how long it waited for it. `turn`: its place in the queue for permits.
    `steps`: the steps of any other wait, and `woken` whether it was woken. `timer`: the number of
    its current time in the heap, 0 for none. `asleep`: it waits, and nothing has ended the wait.
    `inner`: its running fan-out, with the tasks `children`, of which `running` have not ended.
    `fork`, `index`: its place in its parent's.
    """

    __slots__ = (
        "asleep", "children", "course", "effect", "flight", "fork", "index", "inner", "parent",
        "running", "steps", "timer", "turn", "waited", "woken", "worst",
    )  # fmt: skip

    def __init__(
        self, course: Course[Any], parent: _Task | None, fork: Fork | None, index: int
    ) -> None:
        self.course = course
        self.parent = parent
        self.fork = fork
        self.index = index
        self.effect: Acquire | Send | Sleep | Park | None = None
        self.flight: Flight | None = None
        self.worst: Amount | None = None
        self.waited = 0
        self.turn: Turn | None = None
        self.steps: Waits[Any] | None = None
        self.woken = False
        self.asleep = False
        self.timer = 0
        self.inner: Fork | None = None
        self.children: list[_Task] = []
        self.running = 0


class Scheduler:
    """Runs one program, with all its branches, against a simulated provider.

    An exception of a program or of the gate ends all tasks, and so does a KeyboardInterrupt. The
    attempts in flight are then settled at their worst case and have no record.
    """

    def __init__(
        self,
        clock: VirtualClock,
        provider: VirtualProvider,
        permits: Turnstile,
        gate: Gate,
        emit: EmitRecord,
    ) -> None:
        self._clock = clock
        self._provider = provider
        self._permits = permits
        self._gate = gate
        self._emit = gate.emitting(emit)
        self._ready: deque[tuple[Callable[[_Task, Any], None], _Task, Any]] = deque()
        self._times: list[tuple[int, int, _Task]] = []
        self._count = 0  # numbers the times, and so breaks ties by order of arrival
        self._outdated = 0
        self._result: Finished[Any] | None = None

    def run(self, program: Program[_T]) -> _T:
        """Run `program` to its end and return its result.

        Raises DeadlockError if every task waits and no event is scheduled.
        """
        main = _Task(Course(program, Branch(), self._permits.release, 0), None, None, 0)
        ready = self._ready
        try:
            self._resume(main, None)
            while self._result is None:
                while ready:
                    act, task, argument = ready.popleft()
                    act(task, argument)
                if self._result is None:
                    self._jump()
        except BaseException:
            self._end_all(main)
            raise
        value: _T = self._result.value
        return value

    def _resume(self, task: _Task, result: Any) -> None:
        """Run a task until it waits or ends. `result`: of its last effect."""
        advance = task.course.advance
        try:
            while result is not _WAITS:
                effect = advance(result)
                if type(effect) is Emit:  # the most frequent first
                    result = self._emit(effect.record)
                elif type(effect) is Send:
                    result = self._send(task, effect)
                elif type(effect) is Release:
                    self._permits.release()
                    result = None
                elif type(effect) is Acquire:
                    result = self._acquire(task, effect)
                elif type(effect) is Now:
                    result = self._clock.time
                elif type(effect) is Finished:
                    self._ended(task, effect.value)
                    return
                elif type(effect) is FanOut:
                    result = self._fan_out(task, effect)
                elif type(effect) is Sleep:
                    result = self._wait(task, effect, partial(self._sleeping, until=effect.until))
                elif type(effect) is Park:
                    result = self._wait(task, effect, partial(self._permits.parking, effect=effect))
                elif type(effect) is Ring:
                    self._permits.ring(effect.bell)
                    result = None
                elif type(effect) is RunHosted:
                    result = NO_EVENT_LOOP
                elif type(effect) is Foreign:
                    result = no_event_loop(effect)
                else:
                    assert_never(effect)
        except Cancelled:
            self._ended(task, None)

    def _ended(self, task: _Task, value: Any) -> None:
        task.course.end()
        if task.parent is None or task.fork is None:
            self._result = Finished(value)
            return
        task.course.branch.wake_with(None)
        task.fork.ended(task.index, value)
        task.parent.running -= 1
        if not task.parent.running:
            self._ready.append((self._children_ended, task.parent, task.fork))

    # Fan-outs

    def _fan_out(self, task: _Task, effect: FanOut) -> Any:
        fork = Fork(effect)
        if not fork.parts:
            return fork.results
        task.inner = fork
        task.children = [
            _Task(
                Course(program, branch, self._permits.release, fork.held(index)), task, fork, index
            )
            for index, (program, branch) in enumerate(fork.parts)
        ]
        task.running = len(task.children)
        for child in task.children:
            child.course.branch.wake_with(partial(self._cancel, child))
        self._ready.extend((self._resume, child, None) for child in task.children)
        return _WAITS

    def _children_ended(self, task: _Task, fork: Fork) -> None:
        """Let the tasks that were woken before the last child ended continue first."""
        self._ready.append((self._joined, task, fork))

    def _joined(self, task: _Task, fork: Fork) -> None:
        task.inner, task.children = None, []
        self._resume(task, fork.results)

    def _cancel(self, task: _Task) -> None:
        """End what a task waits for, because its branch was cancelled."""
        if task.inner is not None:
            task.inner.cancel()
        elif task.flight is None:
            task.woken = True
            self._queue(task)
        elif task.flight.reply is None:
            self._provider.give_up(self._clock.time, task.flight)
            self._ready.append((self._landed, task, task.flight))

    def _end_all(self, task: _Task) -> None:
        """End a task and all tasks of its fan-outs, innermost first."""
        for child in task.children:
            self._end_all(child)
        task.children = []
        if task.worst is not None:
            self._gate.abandon(task.worst)
        if task.turn is not None:
            self._permits.abandon(task.turn)
        if task.steps is not None:
            task.steps.close()
        task.course.end()

    # Attempts

    def _send(self, task: _Task, effect: Send, entry: Entry | None = None) -> Any:
        """Send an attempt; `entry`: the end of its wait for room in the budget."""
        gate, waited = self._gate, 0
        if entry is None:
            worst = gate.enter(effect)
            if worst is None:
                return self._wait(task, effect, partial(gate.waiting, effect=effect))
        else:
            worst, waited = entry
            if worst is None:
                return gate.not_sent(effect, entry)
        if waited or gate.send_by is not None:
            effect = gate.to_send(effect, waited)
        branch = task.course.branch
        if branch.cancelled:
            reply = unsent(CANCELLED, UNWANTED, self._clock.time)
        else:
            flight = self._provider.begin(self._clock.time, effect, branch.first_text)
            if flight.reply is None:
                task.flight, task.worst, task.waited, flight.owner = flight, worst, waited, task
                return _WAITS
            reply = flight.reply
        gate.leave(worst, reply)
        return after_wait(reply, waited) if waited else reply

    def _landed(self, task: _Task, flight: Flight) -> None:
        worst, reply = task.worst, flight.reply
        assert worst is not None, "it was sent"
        assert reply is not None, "it has ended"
        task.flight = task.worst = None
        if reply.outcome == TOO_LATE:
            self._gate.withdraw(worst)
            self._resume(task, self._send(task, flight.effect))  # waits until the trial ends
            return
        self._gate.leave(worst, reply)
        self._resume(task, after_wait(reply, task.waited) if task.waited else reply)

    # Waits

    def _acquire(self, task: _Task, effect: Acquire) -> Any:
        turn = Turn(partial(self._queue, task))
        grant = self._permits.at_once(effect.deadline, turn)
        if grant is not None:
            return self._acquired(task, effect, grant)
        # The most frequent wait. As a generator like the others, it would cost twice as much.
        task.effect, task.turn, task.asleep = effect, turn, True
        if effect.deadline is not None:
            self._set_timer(task, effect.deadline)
        return _WAITS

    def _acquired(self, task: _Task, effect: Acquire, grant: Grant) -> Any:
        """Let the other tasks request their permits before one with a free permit continues."""
        if grant.granted != grant.requested:
            return task.course.done(effect, grant)
        task.effect = effect
        self._ready.append((self._go_on, task, grant))
        return _WAITS

    def _go_on(self, task: _Task, grant: Grant) -> None:
        assert task.effect is not None, "it has waited"
        self._resume(task, task.course.done(task.effect, grant))

    def _wait(
        self, task: _Task, effect: Send | Sleep | Park, waits: Callable[[Turn], Waits[Any]]
    ) -> Any:
        """Begin a wait; return its result if it ends at once."""
        turn = Turn(partial(self._wake, task, effect))
        task.effect, task.woken, task.steps = effect, False, waits(turn)
        return self._step(task, effect)

    def _step(self, task: _Task, effect: Acquire | Send | Sleep | Park) -> Any:
        """Continue a wait until it has to wait again or ends; return its result."""
        assert task.steps is not None, "it waits"
        try:
            while True:
                until = next(task.steps)
                if not task.woken and (until is None or until > self._clock.time):
                    if until is not None:
                        self._set_timer(task, until)
                    task.asleep = True
                    return _WAITS
        except StopIteration as end:
            task.steps = None
            if type(effect) is Send:
                return self._send(task, effect, end.value)
            return task.course.done(effect, end.value)

    def _wake(self, task: _Task, effect: Send | Sleep | Park) -> None:
        """End the current wait of a task, and the later ones of the same effect."""
        if task.effect is effect:
            task.woken = True
            self._queue(task)

    def _queue(self, task: _Task) -> None:
        if task.asleep:
            task.asleep = False
            self._ready.append((self._continue, task, None))

    def _continue(self, task: _Task, _: None) -> None:
        effect, turn = task.effect, task.turn
        assert effect is not None, "it waits"
        if task.timer:
            task.timer = 0
            self._outdated += 1
        if turn is None or type(effect) is not Acquire:
            self._resume(task, self._step(task, effect))
            return
        task.turn = None
        self._resume(task, self._acquired(task, effect, self._permits.leave(turn)))

    def _sleeping(self, turn: Turn, until: int) -> Waits[int]:
        yield from sleeping(turn, until)
        return self._clock.time

    # Time

    def _set_timer(self, task: _Task, until: int) -> None:
        self._count += 1
        task.timer = self._count
        heappush(self._times, (until, self._count, task))
        if self._outdated > _STALE and 2 * self._outdated > len(self._times):
            self._times = [entry for entry in self._times if entry[2].timer == entry[1]]
            heapify(self._times)
            self._outdated = 0

    def _jump(self) -> None:
        """Set the clock to the next event that wakes tasks, and queue these tasks."""
        times, clock = self._times, self._clock
        while times and times[0][2].timer != times[0][1]:
            heappop(times)
            self._outdated -= 1
        provider, ready = self._provider, self._ready
        due = provider.next_at()
        while due is not None and (not times or due <= times[0][0]):
            clock.go_to(due)
            for flight in provider.advance(clock.time):
                ready.append((self._landed, flight.owner, flight))
            if ready:
                break
            due = provider.next_at()
        else:
            if not times:
                why = "every task waits for another, and no event is scheduled"
                raise DeadlockError(clock.time, why)
            clock.go_to(times[0][0])
        now = clock.time
        while times and times[0][0] <= now:
            _, number, task = heappop(times)
            if task.timer == number:
                ready.append((self._time_is_up, task, number))
            else:
                self._outdated -= 1

    def _time_is_up(self, task: _Task, number: int) -> None:
        if task.timer == number:
            self._outdated -= 1  # it has left the heap
            self._queue(task)
