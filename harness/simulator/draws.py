"""Reproducible random numbers that do not depend on the order of requests.

The SHA-256 hash of (seed, repeat, prompt, purpose) determines each random stream. So the order of
requests changes no number, and a change to one purpose does not affect the others.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, count
from statistics import NormalDist
from struct import Struct
from typing import Literal

_STANDARD = NormalDist()
_FIRST_64_BITS = Struct(">Q").unpack_from


class Draws:
    """All random streams of one prompt in one repeat, or of one topic in all repeats."""

    def __init__(self, seed: int, repeat: int | Literal["any"], prompt: bytes) -> None:
        self._base = _keyed(seed, repeat).copy()
        self._base.update(prompt)

    def lognormal(self, purpose: str, median: float, sigma: float) -> float:
        """Return a log-normal number: exp of a normal number around log(median)."""
        if sigma == 0:
            return median
        return median * math.exp(sigma * _STANDARD.inv_cdf(self.uniform(purpose)))

    def uniform(self, purpose: str) -> float:
        """Return a number between 0 and 1, both excluded."""
        # 52 bits plus a half: an inverse distribution function has no value at 0 and 1
        first: int = _FIRST_64_BITS(self._digest(purpose))[0]
        return ((first >> 12) + 0.5) / (1 << 52)

    def choices(self, purpose: str) -> Iterator[int]:
        """Return endless numbers from 0 to 255; faster to create than a Random object."""
        digests = (self._digest(f"{purpose} {number}") for number in count())
        return chain.from_iterable(digests)

    def generator(self, purpose: str) -> random.Random:
        """Return a random generator for many small choices."""
        seed = int.from_bytes(self._digest(purpose), "big")
        return random.Random(seed)  # noqa: S311 - not for cryptography

    def name(self, cell: str | None, arrival: int) -> str:
        """Return 16 hexadecimal digits that identify this arrival of the prompt."""
        return self._digest(f"name\x1f{cell}\x1f{arrival}")[:8].hex()

    def _digest(self, purpose: str) -> bytes:
        digest = self._base.copy()
        digest.update(b"\x1f" + purpose.encode())
        return digest.digest()


@lru_cache(maxsize=64)
def _keyed(seed: int, repeat: int | Literal["any"]) -> hashlib._Hash:
    """Return the hash of the seed and the repeat; a copy costs half as much as a new one."""
    return hashlib.sha256(f"{seed}\x1f{repeat}\x1f".encode())
