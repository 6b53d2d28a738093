"""The models of a run that may cost money and have no price, so that no view takes them as free."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.base_url import is_on_this_machine
from harness.config.prices import PRICE_WAY_OUT
from harness.records.schema import CellInfo, Run


def unpriced_models(run: Run, cells: Sequence[CellInfo] | None = None) -> tuple[str, ...]:
    """Return the models without a price of these cells, by default of all.

    A simulated provider, and a server on this machine, cost nothing.
    """
    if run.has_simulator:
        return ()
    found: dict[str, None] = {}
    for cell in run.cells if cells is None else cells:
        endpoint = run.cell_scenario(cell)["endpoint"]
        if run.cell_price(cell.id) is None and not is_on_this_machine(
            endpoint.get("base_url", "http://localhost")
        ):
            found[str(endpoint.get("model"))] = None
    return tuple(found)


def unpriced_text(models: Sequence[str], shown: str = "so no cost of it is shown") -> str:
    """Return what to do about models without a price; empty for none."""
    if not models:
        return ""
    return f"no price for {', '.join(models)}, {shown}; {PRICE_WAY_OUT}"
