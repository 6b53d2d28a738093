"""A program that plays a tree of steps, and a strategy for such trees."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

import harness

TREES: dict[str, Tree] = {}
"""The trees that `play` knows, by topic."""


class EarlyReturnError(Exception):
    pass


class Call(NamedTuple):
    phase: str
    raises: bool
    times: int


class Pause(NamedTuple):
    seconds: float


class Block(NamedTuple):
    """Steps one after another, in a phase if it has a name."""

    name: str | None
    steps: tuple[Tree, ...]


class Parallel(NamedTuple):
    branches: tuple[Tree, ...]
    enough: int | None
    wait_for_all: bool


class Caught(NamedTuple):
    step: Tree


class Raising(NamedTuple):
    pass


Tree = Call | Pause | Block | Parallel | Caught | Raising


@harness.workflow
async def play(ask: Any, topic: str) -> str:
    await walk(ask, TREES[topic])
    return "played"


async def walk(ask: Any, tree: Tree) -> None:
    match tree:
        case Call():
            for _ in range(tree.times):
                answer = await ask(tree.phase, f"in {tree.phase}", raises=tree.raises)
                if not answer.ok:
                    return
        case Pause():
            await harness.sleep(tree.seconds)
        case Block(name=None):
            for step in tree.steps:
                await walk(ask, step)
        case Block(name=str(name)):
            with harness.phase(name):
                for step in tree.steps:
                    await walk(ask, step)
        case Parallel():
            branches = [
                ask(one.phase, "in parallel", raises=one.raises)
                if isinstance(one, Call)
                else walk(ask, one)
                for one in tree.branches
            ]
            await harness.gather(*branches, enough=tree.enough, wait_for_all=tree.wait_for_all)
        case Caught():
            try:
                await walk(ask, tree.step)
            except Exception:
                await ask("after", "what now?", raises=False)
        case Raising():
            raise EarlyReturnError


names = st.sampled_from(["plan", "work", "write"])
leaves: st.SearchStrategy[Tree] = st.one_of(
    st.builds(Call, names, st.booleans(), st.integers(1, 2)),
    st.builds(Pause, st.sampled_from([0.0, 0.001])),
    st.builds(Raising),
)


@st.composite
def parallel(draw: st.DrawFn, inner: st.SearchStrategy[Tree]) -> Tree:
    branches = draw(st.lists(inner, max_size=4).map(tuple))
    enough = draw(st.none() | st.integers(0, len(branches)))
    return Parallel(branches, enough, draw(st.booleans()))


trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Block, st.none() | names, st.lists(inner, max_size=4).map(tuple)),
        parallel(inner),
        st.builds(Caught, inner),
    ),
    max_leaves=12,
)
