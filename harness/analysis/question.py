"""The question that a run answers: which sentence its result begins with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from harness.records.schema import Run
from harness.records.settings import CLIENT_KEY, one_at_a_time, split_key

Question = Literal["permits", "policy", "hedge", "accuracy", "client"]
"""`permits`: how many calls to run at once. `policy`: what each retry policy loses. `hedge`: what a
second request saves. `accuracy`: how exactly this machine measures. `client`: what each client
costs a request."""

MEASURING: frozenset[Question] = frozenset(("accuracy", "client"))
"""The questions about the measurement itself, which recommend no setting."""


def question_of(run: Run) -> Question:
    """Return the question of the scenario, or else the one that its swept settings ask."""
    asked: Question | None = run.scenario.get("question")
    if asked is not None:
        return asked
    if len(clients_of(run)) > 1:
        return "client"
    several = [cell for cell in run.cells if not one_at_a_time(cell.mode)]
    if len({cell.limiter or cell.permits for cell in several}) > 1:
        return "permits"
    policies = {cell.retry for cell in run.cells}
    hedged = set(hedged_policies(run))
    if hedged and (policies - hedged or _sweeps_hedges(run)):
        return "hedge"
    return "policy" if len(policies) > 1 else "permits"


def clients_of(run: Run) -> tuple[str, ...]:
    """Return what sends the requests of the cells: the different values of `endpoint.client`."""
    own = run.scenario["endpoint"].get("client", "openai")  # runs of earlier versions have no key
    return tuple(dict.fromkeys(str(cell.settings.get(CLIENT_KEY, own)) for cell in run.cells))


def hedged_policies(run: Run) -> tuple[str, ...]:
    """Return the names of the retry policies of the cells that send second requests."""
    names = dict.fromkeys(cell.retry for cell in run.cells)
    described = _described(run)
    return tuple(
        name
        for name in names
        if any(described.get(part, {}).get("kind") == "hedge" for part in _parts(described, name))
    )


def _described(run: Run) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = run.scenario.get("retry") or {}
    return found


def _parts(described: dict[str, dict[str, Any]], name: str) -> Iterator[str]:
    """Yield a policy and, of a stack, its layers."""
    yield name
    yield from described.get(name, {}).get("layers") or ()


def _sweeps_hedges(run: Run) -> bool:
    described = _described(run)
    keys = {tuple(split_key(key)) for cell in run.cells for key in cell.settings}
    return any(
        section == "retry" and described.get(name, {}).get("kind") == "hedge"
        for section, name, *_ in (key for key in keys if len(key) > 1)
    )
