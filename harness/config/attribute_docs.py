"""The documentation of the fields of a class: the docstring below each field.

Python does not keep these docstrings, so they are read from the source when they are needed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import NamedTuple

_EXAMPLE = "Example::\n\n"


class ClassDoc(NamedTuple):
    """The docstring of a class, in two parts: its text, and its example, which may be empty."""

    text: str
    example: str


def class_doc(cls: type) -> ClassDoc:
    """Return the docstring of a class; empty texts if it has none of its own."""
    whole = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    text, _, example = whole.partition(_EXAMPLE)
    return ClassDoc(text.strip(), inspect.cleandoc(example))


@cache
def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstrings of the fields of a class and its base classes, by name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):  # without source
            continue
        if isinstance(tree, ast.ClassDef):
            found |= _docs_in(tree)
    return found


def _docs_in(tree: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        match below:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                found[field.target.id] = " ".join(text.split())
    return found
