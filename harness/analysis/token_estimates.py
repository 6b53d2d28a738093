"""The tokens of responses that broke off: a provider reports usage at the end, which never came.

What had come by then was made and is paid for, so it is reckoned from the number of text chunks,
with as many tokens a chunk as the run's whole responses had on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from harness.records.failures import OK
from harness.records.schema import Attempt


def with_received(attempts: Sequence[Attempt]) -> Iterator[Attempt]:
    """Yield every attempt; a failed one with text but no usage gets the output that it received.

    Nothing is reckoned in a run without one whole response whose usage was reported.
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
