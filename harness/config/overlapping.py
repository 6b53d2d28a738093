"""What holds for all contexts that overlap, such as those of workflows at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OverlappingContexts:
    """Makes contexts: `begin` is called when the first one begins, `end` when the last one ends."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin = begin
        self._end = end
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Return a context."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count:
                    self._end()
