"""Estimates of the output tokens of interrupted responses, which never report their usage.

The received output was generated and is paid for. The estimate is the number of text chunks times
the mean number of tokens in a chunk of the run's complete responses.
"""

from __future__ import annotations

import numpy as np

from harness.records.failures import OK
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT


def received_output(attempts: AttemptTable) -> AttemptTable:
    """Return the attempts with an estimated `output` of failed ones with text but no usage.

    There is no estimate in a run without a complete response with usage.
    """
    is_ok = attempts.where("outcome", OK.__eq__)
    output, chunks = attempts.column("output"), attempts.column("chunks")
    whole = is_ok & (chunks > 0) & (output != ABSENT)
    cut = ~is_ok & (output == ABSENT) & (chunks > 0)
    if not whole.any() or not cut.any():
        return attempts
    rate = int(output[whole].sum(dtype=np.int64)) / int(chunks[whole].sum(dtype=np.int64))
    estimated = output.astype(np.int64)
    estimated[cut] = np.rint(chunks[cut] * rate)
    return attempts.with_columns(output=estimated)
