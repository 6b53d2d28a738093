"""The file of a trial has its records, but for the ids of the provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.errors import StorageError
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.store.run_directory import TRIALS_FOLDER, Writer
from harness.store.trial_files import StoredTrial, TrialColumns, trial_path
from tests.analysis.builders import make_attempt, make_trial, make_workflow
from tests.store.test_columns import attempts, calls

batches = st.lists(st.lists(attempts, max_size=3), max_size=3)


@given(batches, st.lists(calls, max_size=4), st.none() | st.just(make_trial()))
def test_every_record_comes_back(
    written: list[list[Any]], more: list[Any], trial: Trial | None
) -> None:
    columns = TrialColumns()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.store.trial_files._BATCH", 2)
        for batch in written:
            columns.add_attempts(batch)
        columns.add_calls(more)
    workflows = [make_workflow(), make_workflow(workflow=1)]
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in workflows)
    stored = StoredTrial(columns.encode(trial, lines))
    assert stored.each(Attempt) == [one for batch in written for one in batch]
    bare = [
        msgspec.structs.replace(one, tokens=None, wasted_tokens=None) for one in stored.each(Call)
    ]
    assert bare == more
    assert stored.each(Workflow) == workflows
    assert stored.each(Trial) == [trial] * (trial is not None)


def test_a_column_of_equal_values_takes_the_space_of_one() -> None:
    def size(**different: Any) -> int:
        columns = TrialColumns()
        columns.add_attempts([make_attempt(), *[make_attempt(**different)] * 999])
        return len(columns.encode(None, b""))

    assert size() < 3000
    assert size(sent=7) > 8000


def test_a_file_that_cannot_be_written_ends_all_writing(tmp_path: Path) -> None:
    (tmp_path / TRIALS_FOLDER).write_text("not a folder")
    with Writer(tmp_path, records="summary") as writer:
        for _ in range(2):
            with pytest.raises(
                StorageError, match=r"trials: cannot be written \(.*make room .* --resume"
            ):
                writer.add_file(trial_path(tmp_path, make_trial()), b"")
            (tmp_path / TRIALS_FOLDER).unlink(missing_ok=True)
    assert list(tmp_path.iterdir()) == []
