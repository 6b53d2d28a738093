"""Every shipped simulated scenario computes what it computed when its golden run was made.

A failure names the record, the field, the old value and the new one. See `renames` for fields and
values that were renamed, and `__main__` for when a golden run may change.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.golden.comparison import (
    ABSENT,
    Difference,
    compare_rows,
    compare_table,
    is_below,
    report,
)
from tests.golden.runs import DATA, GOLDEN, ROOT, TABLES, Golden, load, run

MOST_ATTEMPTS = 500
MOST_BYTES = 2_000_000


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_scenario_runs_as_it_did(golden: Golden, tmp_path: Path) -> None:
    found: list[Difference] = []
    # Where timing decides, a busy machine can differ more than is allowed, but not every time.
    for tries in range(3 if golden.may_differ else 1):
        if not (found := _differences(golden, tmp_path / f"run-{tries}")):
            break
    assert not found, report(found)


def _differences(golden: Golden, directory: Path) -> list[Difference]:
    old, new = load(golden.name), run(golden, directory)
    found: list[Difference] = []
    for table in TABLES:
        differences = compare_table(table, old.tables[table], new.tables[table])
        records = {difference.record for difference in differences}
        if len(records) > golden.may_differ * len(old.tables[table]):
            found += differences
    slack = COUNT_SLACK if golden.may_differ else 0
    found += [
        difference
        for difference in compare_rows("summary", old.summary, new.summary)
        if not _is_within(slack, difference)
    ]
    return found + compare_rows("texts", old.texts, new.texts)


COUNT_SLACK = 4
"""How far a count of a cell may differ where timing decides."""
COUNTS = frozenset(f"summary.cells[].{name}" for name in ("workflows", "calls", "attempts"))


def _is_within(slack: int, difference: Difference) -> bool:
    """Return whether a count differs by `slack` at most; a class that is absent counts 0."""
    if not slack or not is_below(difference.field, COUNTS):
        return False
    old, new = (0 if it == ABSENT else it for it in (difference.old, difference.new))
    return bool(abs(old - new) <= slack)


def test_every_simulated_scenario_has_a_golden_run() -> None:
    shipped = {
        path.stem
        for path in (ROOT / "scenarios").glob("*.toml")
        if tomllib.loads(path.read_text())["endpoint"]["kind"] == "simulated"
    }
    assert shipped <= {golden.scenario for golden in GOLDEN if golden.is_virtual}


def test_golden_runs_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.parent.rglob("*.gz")) < MOST_BYTES
    for golden in GOLDEN:
        assert 0 < len(load(golden.name).tables["attempts"]) <= MOST_ATTEMPTS, golden.name
