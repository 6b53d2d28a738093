"""A public name is defined once in the package, so that a search for it finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent

ALLOWED = {"main"}
"""Every module that is a program has one."""


def public_names(module: Path) -> Iterator[str]:
    """Yield the public names that the top level of a module defines."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                names = [name]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


def defined_twice() -> dict[str, list[str]]:
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for module in sorted(PACKAGE.rglob("*.py")):
        for name in public_names(module):
            modules[name].append(str(module.relative_to(PACKAGE)))
    return {name: found for name, found in modules.items() if len(set(found)) > 1}


def test_a_public_name_is_defined_once() -> None:
    twice = defined_twice()
    unexpected = {name: twice[name] for name in twice.keys() - ALLOWED}
    assert unexpected == {}, "give each of these its own name, or make it private"
