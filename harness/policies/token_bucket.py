"""A token bucket: pure values.

Amounts are thousandths of a token where a rule has fractions, so that no sum is ever rounded.
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
    """A token bucket: at most `most`, now `tokens`."""

    most: int
    tokens: int


def put(bucket: Bucket, amount: int) -> Bucket:
    """Return the bucket with `amount` more in it; what does not fit is lost."""
    return bucket._replace(tokens=min(bucket.most, bucket.tokens + amount))


def take(bucket: Bucket, cost: int) -> tuple[Bucket, bool]:
    """Return the bucket with `cost` less in it, or as it was if there is not so much."""
    if cost > bucket.tokens:
        return bucket, False
    return bucket._replace(tokens=bucket.tokens - cost), True
