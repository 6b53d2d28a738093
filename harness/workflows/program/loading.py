"""Finds and imports the function of a program.

A place is `package.module:function` or `path/to/file.py:function`. Parsing a scenario only checks
the form of the place. The code is imported when a run begins, and never to read a stored run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.workflows.code_section import short_digest
from harness.workflows.program.environment import prepared_environment

_FORM = "write it as 'file.py:function' or 'package.module:function'"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_KEY = "workflow.program"
_MARK = "__harness_workflow__"
"""The attribute of a function that has the decorator `harness.workflow`."""

AsyncFunction = Callable[..., Any]


def workflow(function: AsyncFunction) -> AsyncFunction:
    """Mark an async function as a workflow: its first parameter is `ask`, its second a topic."""
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"harness.workflow: {_name_of(function)} is no async function; use async def"
        )
    setattr(function, _MARK, True)
    return function


def is_marked(function: AsyncFunction) -> bool:
    """Return whether a function has the decorator `harness.workflow`."""
    return bool(getattr(function, _MARK, False))


class ProgramPlace(NamedTuple):
    """Where a program is: a module or a file, and the name of the function in it."""

    source: str
    function: str

    @property
    def is_file(self) -> bool:
        """Whether the source is the path of a file."""
        return self.source.endswith(".py")


def place_of(text: str) -> ProgramPlace:
    """Return the parts of a place. Raises ValueError if it has another form."""
    source, colon, function = text.rpartition(":")
    is_known = source.endswith(".py") or _MODULE.match(source) is not None
    if not colon or not function.isidentifier() or not is_known:
        raise ValueError(f"names no function; {_FORM}")
    return ProgramPlace(source, function)


def checked_place(value: object) -> object:
    """Return `value`; raise ValueError if it is text that is no place."""
    if isinstance(value, str):
        place_of(value)
    return value


def in_folder(text: str, folder: Path) -> str:
    """Return a place with the absolute path of its file below `folder`; a module unchanged."""
    source, _, function = text.rpartition(":")
    return f"{(folder / source).absolute()}:{function}" if source.endswith(".py") else text


def describe_place(text: str) -> str:
    """Return a place with the first digits of the hash of its file, if it is a file."""
    place = place_of(text)
    file = _file_of(place)
    digest = None if file is None else short_digest(file)
    return text if digest is None else f"{text} (sha256 {digest})"


def _file_of(place: ProgramPlace) -> Path | None:
    if place.is_file:
        return Path(place.source)
    module = sys.modules.get(place.source)
    name = getattr(module, "__file__", None)
    return Path(name) if name else None


@cache
def load_program(text: str) -> AsyncFunction:
    """Import the program and return its function. Raises InputError, one line."""
    place = place_of(text)
    try:
        with prepared_environment(), _guarded(place), chdir(Path()):  # the run has paths, too
            module = (
                _import_file(Path(place.source)) if place.is_file else _import_module(place.source)
            )
    except FileNotFoundError:
        raise _error(text, "no such file; give the path of a Python file") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: any error of the user's module
        raise _error(text, f"cannot be imported: {error_line(error, place.source)}") from None
    function: AsyncFunction | None = getattr(module, place.function, None)
    if function is None:
        raise _error(text, f"has no {place.function}; {_functions_of(module)}")
    if not inspect.iscoroutinefunction(function):
        raise _error(text, f"{place.function} is no async function; write it with async def")
    return function


def _functions_of(module: ModuleType) -> str:
    """Return which functions of a module can be run."""
    names = [
        name
        for name, it in vars(module).items()
        if inspect.iscoroutinefunction(it) and it.__module__ == module.__name__
    ]
    return f"its async functions are: {', '.join(names)}" if names else "it has no async function"


@contextmanager
def _guarded(place: ProgramPlace) -> Iterator[None]:
    """Refuse requests of the openai package while a program is imported that may use it.

    They would pass no budget. The package is slow to import, and many programs with the decorator
    do not need it.
    """
    file = _file_of(place)
    if file is not None and file.is_file() and b"openai" not in file.read_bytes().lower():
        yield
        return
    from harness.client.instrumentation import instrumented

    with instrumented():
        yield


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    _first_on_path(path.parent)
    name = f"harness_program_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "it is a Python file"
    assert spec.loader is not None, "it is a Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    _first_on_path(Path())
    return importlib.import_module(name)


def _first_on_path(folder: Path) -> None:
    """Make the modules of a folder importable, as `python file.py` does for the file's folder."""
    entry = str(folder.absolute())
    if entry not in sys.path:
        sys.path.insert(0, entry)


def error_line(error: BaseException, source: str | None = None) -> str:
    """Return an exception in one line: its type, its text, and where it was raised.

    `source`: the file of the program; the place is the last line of this file in the traceback.
    """
    try:
        text = str(error)
    except Exception:  # its own method fails
        text = ""
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source is not None and frame.filename == source]
    own = own or [frame for frame in frames if not _is_ours(frame.filename)]
    if own:
        what += f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    return one_line(what)


def _is_ours(file: str) -> bool:
    package = str(Path(__file__).parents[2])
    return file.startswith((package, "<"))


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _error(text: str, what: str) -> InputError:
    return InputError(one_line(f"{_KEY} = {text!r}: {what}"))
