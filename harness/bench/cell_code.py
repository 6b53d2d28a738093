"""The code that does in a program what a cell does: its retry policy and its limit that adapts."""

from __future__ import annotations

import msgspec

from harness.bench.scenario import Scenario
from harness.limits.registry import LIMIT_KINDS
from harness.limits.section import LimitSection
from harness.policies.resolve import code_of_policy
from harness.records.schema import CellInfo, PolicyCode, Run


def code_of_cell(scenario: Scenario, cell: CellInfo) -> PolicyCode:
    """Return the code of a cell. `scenario`: its own."""
    code = scenario.policy(cell.retry).code()
    return with_limit(code, scenario.limit(cell.limiter)) if cell.limiter else code


def with_limit(code: PolicyCode, limit: LimitSection) -> PolicyCode:
    """Return code that also has a limit that adapts."""
    module = type(limit).__module__.partition(".")[0]
    return msgspec.structs.replace(
        code,
        limit=limit.expression(),
        imports=tuple(sorted({*code.imports, module} - {"harness"})),
    )


def code_of_cells(run: Run) -> dict[str, PolicyCode]:
    """Return the code of each cell, whatever the version that recorded the run.

    It is empty if this version does not know the policies or the limits of the run.
    """
    try:
        return {cell.id: _recorded(run, cell) for cell in run.cells}
    except ValueError:
        return {}


def _recorded(run: Run, cell: CellInfo) -> PolicyCode:
    own = run.cell_scenario(cell)
    code = code_of_policy(own["retry"], cell.retry)
    return (
        with_limit(code, LIMIT_KINDS.validate(own["permits"][cell.limiter]))
        if cell.limiter
        else code
    )
