"""Estimates of the output tokens of interrupted responses, which never report their usage.

The received output was generated and is paid for. The estimate is the number of text chunks times
the mean number of tokens in a chunk of the run's complete responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from harness.records.failures import OK
from harness.records.schema import Attempt


def with_received(attempts: Sequence[Attempt]) -> Iterator[Attempt]:
    """Yield every attempt, with estimated output for a failed one with text but no usage.

    There is no estimate in a run without a complete response with usage.
    """
    rate = _tokens_a_chunk(attempts)
    for attempt in attempts:
        known = attempt.outcome == OK or attempt.tokens.output is not None
        if rate is None or known or not attempt.chunks:
            yield attempt
        else:
            output = round(attempt.chunks * rate)
            tokens = msgspec.structs.replace(attempt.tokens, output=output)
            yield msgspec.structs.replace(attempt, tokens=tokens)


def _tokens_a_chunk(attempts: Iterable[Attempt]) -> float | None:
    tokens = chunks = 0
    for attempt in attempts:
        if attempt.outcome == OK and attempt.chunks and attempt.tokens.output is not None:
            tokens += attempt.tokens.output
            chunks += attempt.chunks
    return tokens / chunks if chunks else None
