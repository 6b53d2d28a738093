"""Each mode runs a whole program over real connections, and its permits are all that limits it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.bench import modes
from harness.bench.modes import MODES
from harness.engine.attempt import CallTerms
from harness.engine.attempt import CallTimeouts as CallLimits
from harness.engine.budget_gate import Gate
from harness.engine.call import Completion, complete
from harness.engine.effects import Program, Reply, Send, emit, fan_out
from harness.engine.ledger import Amount, BudgetLimits
from harness.policies.no_retry import NoRetryRule
from harness.policies.protocol import Admission, Asking, Ended, ParkCall, RandomOf, RetryVerdict
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Record
from tests.analysis.builders import make_workflow
from tests.engine.scripted import WORKFLOW, terms
from tests.transports.attempts import make_send, make_target
from tests.transports.bodies import EVENT_STREAM
from tests.wire.clients import now
from tests.wire.fault_server import END, FaultServer, Hold, Pause, Step, Until, Write, framed, head
from tests.wire.faults import GOOD

BRANCHES = 6
NOBODY = "http://127.0.0.1:9/v1"
AGES = 10**11
PATIENT = terms(NoRetryRule())._replace(limits=CallLimits(AGES, AGES, AGES, AGES))
ANSWER: Sequence[Step] = [
    Write(head(200, ("content-type", EVENT_STREAM)) + framed(b"".join(GOOD)) + END)
]


class NoMeter:
    """Counts nothing."""

    most = Amount()

    def worst(self, effect: Send) -> Amount:
        return Amount()

    def used(self, worst: Amount, reply: Reply) -> Amount:
        return worst


def open_gate() -> Gate:
    return Gate(BudgetLimits(), NoMeter(), now)


def calls(how: CallTerms = PATIENT) -> Program[None]:
    def call(branch: int) -> Program[Completion]:
        key = CallKey(*WORKFLOW, "fan_out", branch, 1)
        return complete(how, key, make_send().request, now())

    yield from fan_out([call(branch) for branch in range(BRANCHES)])


@pytest.mark.parametrize(
    ("mode", "permits"), [("sync", 1), ("threads", 1), ("threads", 3), ("async", 1), ("async", 3)]
)
def test_a_mode_makes_every_call_and_no_more_at_once_than_it_may(mode: str, permits: int) -> None:
    """No request is answered before as many have arrived as there are permits."""
    steps = [Until(lambda: server.most_in_service >= permits), Pause(0.03), *ANSWER]
    records: list[Record] = []
    with FaultServer(lambda _: steps) as server:
        lag = MODES[mode](
            calls(), make_target(server.base_url), permits, now, records.append, open_gate()
        )
        assert server.settled(lambda: server.open == 0)
    attempts = [record for record in records if isinstance(record, Attempt)]
    assert [attempt.outcome for attempt in attempts] == [OK] * BRANCHES
    assert {attempt.branch for attempt in attempts} == set(range(BRANCHES))
    assert (len(server.seen), server.most_in_service) == (BRANCHES, permits)
    assert bool(lag.loop_lag) == (mode != "sync")
    if mode == "sync" and Path("/proc/thread-self/schedstat").exists():
        assert [one.due + one.late for one in lag.late_timers] == [
            attempt.first_text for attempt in attempts
        ]


def ours() -> list[threading.Thread]:
    """The threads that a mode starts."""
    names = ("branch-", "deadlines")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


@pytest.mark.parametrize(("mode", "permits"), [("sync", 1), ("threads", 3), ("async", 3)])
def test_a_mode_that_is_interrupted_hangs_up_at_once_and_leaves_nothing_behind(
    mode: str, permits: int
) -> None:
    """The server would never answer."""
    me = threading.get_ident()
    records: list[Record] = []
    with FaultServer(lambda _: [Hold()]) as server:

        def interrupt() -> None:
            if server.settled(lambda: server.in_service == permits):
                signal.pthread_kill(me, signal.SIGINT)

        watcher = threading.Thread(target=interrupt)
        watcher.start()
        target = make_target(server.base_url)
        with pytest.raises(KeyboardInterrupt):
            MODES[mode](calls(), target, permits, now, records.append, open_gate())
        watcher.join()
        assert server.settled(lambda: server.open == 0)
        assert len(server.seen) == permits
    assert records == []
    give_up = now() + 20 * SECOND
    while ours() and now() < give_up:  # a branch that was about to begin may still be ending
        time.sleep(0)
    assert ours() == []


RECORD = make_workflow()


def one_branch() -> Program[None]:
    """It records something."""
    yield from fan_out([emit(RECORD)])


def until_it_waits(thread: int) -> None:
    """Return once a thread has stood at the same place, waiting, for a thousand looks."""
    looks, place = 0, None
    while looks < 1000:
        frame = sys._current_frames()[thread]
        at = (frame.f_code.co_name, frame.f_lasti)
        looks = looks + 1 if at == place and "wait" in at[0] else 0
        place = at
        time.sleep(0)


def test_an_interruption_that_another_thread_took_ends_the_run_at_once_all_the_same() -> None:
    """It wakes nobody: its handler runs in the main thread, when that runs next."""
    me, over, woken = threading.get_ident(), threading.Event(), list[bool]()

    def take(record: Record) -> None:
        until_it_waits(me)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        woken.append(over.wait(20))

    with pytest.raises(KeyboardInterrupt):
        MODES["threads"](one_branch(), make_target(NOBODY), 1, now, take, open_gate())
    over.set()
    while ours():
        time.sleep(0)
    assert woken == [True]


def test_what_a_branch_still_does_when_the_run_is_interrupted_is_done_before_the_mode_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me, over, done = threading.get_ident(), threading.Event(), list[Record]()
    join = modes._join_branches

    def join_meanwhile() -> None:
        over.set()
        join()

    def take(record: Record) -> None:
        until_it_waits(me)
        signal.pthread_kill(me, signal.SIGINT)
        over.wait(20)
        for _ in range(10**6):  # others run meanwhile
            pass
        done.append(record)

    monkeypatch.setattr(modes, "_join_branches", join_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        MODES["threads"](one_branch(), make_target(NOBODY), 1, now, take, open_gate())
    assert done == [RECORD]


class Parks:
    """A policy that lets nobody out, ever; it tells when so many have asked."""

    hedge = None

    def __init__(self, many: int) -> None:
        self.left = many
        self.all_parked = threading.Event()

    def admit(self, asking: Asking) -> Admission:
        self.left -= 1
        if self.left == 0:
            self.all_parked.set()
        return ParkCall("bell", asking.now + AGES)

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        raise AssertionError("nobody was let out")


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize(("mode", "permits"), [("sync", 1), ("threads", 2), ("async", 2)])
def test_an_interruption_wakes_whoever_is_parked(mode: str, permits: int, hold: bool) -> None:
    """All of them are: those who hold their permits, or everybody."""
    me = threading.get_ident()
    parks = Parks(1 if mode == "sync" else permits if hold else BRANCHES)
    how = PATIENT._replace(policy=parks, hold_permit=hold)

    caught = threading.Event()

    def interrupt() -> None:  # again, if it came in the very moment when a wait began
        if parks.all_parked.wait(20):
            signal.pthread_kill(me, signal.SIGINT)
            while not caught.wait(1):
                signal.pthread_kill(me, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    records: list[Record] = []
    target = make_target(NOBODY)
    with pytest.raises(KeyboardInterrupt):
        MODES[mode](calls(how), target, permits, now, records.append, open_gate())
    caught.set()
    watcher.join()
    give_up = now() + 20 * SECOND
    while ours() and now() < give_up:
        time.sleep(0)
    assert ours() == []
    assert records == []
