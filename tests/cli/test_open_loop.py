"""An open loop over real HTTP, in every mode: ready is the scheduled arrival."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.modes import MODES
from harness.cli.main import main
from harness.records.clock import SECOND
from harness.store.run_directory import read_records

SCENARIO = """
name = "open"
[workflow]
topics = ["tides", "soil"]
sub_questions = 2
[endpoint]
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 200 }
time_scale = 0.002
[load]
workflows = 3
arrivals = { process = "constant", per_second = 0.05 }
[timeouts]
idle = "1h"
call = "5h"
[sweep]
mode = ["MODE"]
permits = [4]
[objective]
minimise = "workflow_p95"
"""


@pytest.mark.parametrize("mode", MODES)
def test_workflows_are_ready_when_they_are_due_whether_or_not_one_can_begin(
    mode: str, tmp_path: Path
) -> None:
    scenario = tmp_path / "open.toml"
    scenario.write_text(SCENARIO.replace("MODE", mode))
    out = tmp_path / "out"
    assert main(["run", str(scenario), "--out", str(out), "--quiet"]) == 0
    workflows = sorted(read_records(out).workflows, key=lambda w: w.workflow)
    assert len(workflows) == 3
    distances = [one.ready - workflows[0].ready for one in workflows]
    assert distances == [0, SECOND // 25, 2 * SECOND // 25]
    assert all(one.started >= one.ready for one in workflows)
    if mode == "sync":  # one at a time, so the others waited, and their wait counts
        assert workflows[1].started >= workflows[0].done
        assert workflows[1].started > workflows[1].ready
