"""The world of `benchmarks.survival`: a disk, a provider, Ctrl-C and a clock that go wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, BinaryIO
from unittest.mock import patch

import msgspec

from harness.engine import effects
from harness.engine.deadlines import TOO_LATE
from harness.records.clock import SECOND, Anchor
from harness.records.schema import Spent
from harness.simulator.virtual.provider import Flight, VirtualProvider
from harness.store import run_directory


class Killed(BaseException):
    """The process ends here, and does nothing more."""


class Disk:
    """What happens to each write: one of them in a session goes wrong, or none."""

    def __init__(self, random: Random, *, is_calm: bool) -> None:
        self._random = random
        kinds = ("", "before", "after", "torn", "full", "short")
        self._kind = "" if is_calm else random.choice(kinds)
        self._left = random.randint(1, 25)
        self._dead = False

    def act(self) -> str:
        """Return what happens to the next write; empty if it succeeds."""
        if self._dead:
            raise Killed
        self._left -= 1
        return self._kind if self._left == 0 else ""

    def die(self) -> None:
        """Kill the process."""
        self._dead = True
        raise Killed

    def part(self, data: bytes) -> bytes:
        """Return what reached the disk of a write that was cut."""
        return data[: self._random.randrange(len(data))]

    def replace(self, real: Callable[..., None], path: Path, parts: Iterable[bytes]) -> None:
        """Write a whole file."""
        data, kind = b"".join(parts), self.act()
        if kind in ("full", "short"):
            with run_directory.writing(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "torn":
            path.with_name(path.name + ".part").write_bytes(self.part(data))
        if kind in ("torn", "before"):
            self.die()
        real(path, [data])
        if kind == "after":
            self.die()


class FaultyFile:
    """A file of records on a disk. `booked` is called with each line of spending that is whole."""

    def __init__(self, file: BinaryIO, disk: Disk, booked: Callable[[bytes], None]) -> None:
        self._file = file
        self._disk = disk
        self._booked = booked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        """Write, if nothing goes wrong."""
        kind = self._disk.act()
        if kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "short":
            return self._file.write(self._disk.part(data))
        if kind == "torn":
            self._file.write(self._disk.part(data))
        if kind in ("torn", "before"):
            self._disk.die()
        written = self._file.write(data)
        self._booked(data)
        if kind == "after":
            self._disk.die()
        return written


class Provider:
    """What the provider has counted in the current trial, and what the budget has booked."""

    def __init__(self, interrupt_at: int | None) -> None:
        self._until_interrupt = interrupt_at
        self._flights: list[Flight] = []
        self._unsent = 0
        self.booked = Spent(attempts=0, tokens=0, nano_usd=0)

    def new_trial(self) -> None:
        """Begin to count."""
        self._flights, self._unsent = [], 0

    def note(self, flight: Flight) -> None:
        """Count an attempt."""
        self._flights.append(flight)

    def interrupt(self) -> None:
        """Press Ctrl-C if the next attempt is the one before which it comes."""
        if self._until_interrupt is not None:
            self._until_interrupt -= 1
            if self._until_interrupt == 0:
                raise KeyboardInterrupt

    def note_unsent(self) -> None:
        """Count an attempt that was charged and not sent."""
        self._unsent += 1

    def book(self, line: bytes) -> None:
        """Compare a line of spending with what was counted in the trial before it."""
        spent = msgspec.json.decode(line, type=Spent)
        replies = [flight.reply for flight in self._flights]
        late = sum(reply is not None and reply.outcome == TOO_LATE for reply in replies)
        attempts = len(replies) - late + self._unsent
        # An interrupted attempt is booked at its worst case, whether it was sent or not.
        extra = spent.attempts - self.booked.attempts - attempts
        assert 0 <= extra <= (self._until_interrupt == 0), "attempts, by the provider's count"
        used, is_known = 0, extra == 0
        for reply in replies:
            if reply is None:
                is_known = False
            elif reply.sent is not None and (reply.status is None or reply.status < 300):
                tokens = reply.tokens
                used += (tokens.input or 0) + (tokens.output or 0)
                is_known = is_known and None not in (tokens.input, tokens.output)
        booked = spent.tokens - self.booked.tokens
        assert booked >= used, "tokens, by the provider's count"
        assert booked == used or not is_known, "tokens, all of which are known"
        self.booked = spent
        self.new_trial()


@contextmanager
def faults_at_every_seam(
    random: Random, provider: Provider, disk: Disk, unix_ns: int
) -> Iterator[None]:
    """Put the faults of one session into the harness."""

    class FaultyWriter(run_directory.Writer):
        """A writer on a faulty disk."""

        def __enter__(self) -> FaultyWriter:
            super().__enter__()
            files: dict[type, Any] = self._files
            for kind, file in files.items():
                booked = provider.book if kind is Spent else ignore
                files[kind] = FaultyFile(file, disk, booked)
            return self

    begin, replace, unsent = VirtualProvider.begin, run_directory.replace_file, effects.unsent
    opened = VirtualProvider.__init__

    def begin_counted(self: VirtualProvider, *arguments: Any) -> Flight:
        provider.interrupt()
        flight = begin(self, *arguments)
        provider.note(flight)
        return flight

    def opened_counted(self: VirtualProvider, *arguments: Any) -> None:
        opened(self, *arguments)
        provider.new_trial()

    def unsent_counted(*arguments: Any) -> Any:
        provider.note_unsent()
        return unsent(*arguments)

    anchor = Anchor(unix_ns=unix_ns, monotonic_ns=random.randrange(1000 * SECOND))
    with ExitStack() as patched:
        for name, value in {
            "harness.store.run_directory.Writer": FaultyWriter,
            "harness.store.run_directory.replace_file": lambda *of: disk.replace(replace, *of),
            "harness.simulator.virtual.provider.VirtualProvider.begin": begin_counted,
            "harness.simulator.virtual.provider.VirtualProvider.__init__": opened_counted,
            "harness.simulator.virtual.scheduler.unsent": unsent_counted,
            "harness.bench.runner.take_anchor": lambda: anchor,
            "harness.bench.resume.take_anchor": lambda: anchor,
        }.items():
            patched.enter_context(patch(name, value))
        yield


def ignore(*_: object) -> None:
    """Do nothing."""
