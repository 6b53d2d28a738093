"""A token bucket.

Rules with fractions count thousandths of a token, so that sums are exact.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

Share = Annotated[float, Field(gt=0, le=1)]
WHOLE = 1000
"""Thousandths in a token."""


def thousandths(ratio: float) -> int:
    """Return a share in thousandths of a token, at least one."""
    return max(1, round(ratio * WHOLE))


class Bucket(NamedTuple):
    """A token bucket that holds `tokens` of at most `most`."""

    most: int
    tokens: int


def put(bucket: Bucket, amount: int) -> Bucket:
    """Return the bucket with `amount` added, up to its limit."""
    return bucket._replace(tokens=min(bucket.most, bucket.tokens + amount))


def take(bucket: Bucket, cost: int) -> tuple[Bucket, bool]:
    """Return the bucket without `cost` and True, or unchanged and False if it holds less."""
    if cost > bucket.tokens:
        return bucket, False
    return bucket._replace(tokens=bucket.tokens - cost), True
