"""A program imports the classes of all kinds of policy from `harness.policies`."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import pytest

import harness.policies
from harness.policies.registry import BUILT_IN_KINDS

IN_STACKS = {"stack"}
"""A program lists the layers itself."""


def test_the_names_for_type_checkers_are_those_of_the_table() -> None:
    tree = ast.parse(Path(harness.policies.__file__).read_text())
    declared = {
        f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("harness.policies.")
        for alias in node.names
        if alias.asname
    }
    places = {place for kind, place in BUILT_IN_KINDS.items() if kind not in IN_STACKS}
    assert declared == places


@pytest.mark.parametrize("kind", sorted(BUILT_IN_KINDS.keys() - IN_STACKS))
def test_each_kind_is_a_documented_class_that_knows_its_name(kind: str) -> None:
    cls = pkgutil.resolve_name(BUILT_IN_KINDS[kind])
    assert getattr(harness.policies, cls.__name__) is cls
    assert cls.model_fields["kind"].default == kind
    assert cls.__doc__


def test_an_unknown_name_is_an_error_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Exponentail'"):
        _ = harness.policies.Exponentail  # type: ignore[attr-defined]
