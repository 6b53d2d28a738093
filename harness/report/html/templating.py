"""Fills the templates of pages: one HTML file that loads nothing."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.records.errors import StorageError
from harness.report.html import draw

_TEMPLATES = Path(__file__).with_name("templates")


def fill_template(template: str, scripts: Sequence[str], **values: Any) -> str:
    """Return a page. `scripts`: the files of its script, of which the page states the hash."""
    style = Markup(_read("style.css"))  # noqa: S704
    script = Markup("".join(map(_read, scripts)))  # noqa: S704
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template)
    return page.render(style=style, script=script, script_hash=digest, **values)


def write_page(path: Path, text: str) -> None:
    """Write a page; a file that exists is replaced as a whole. Raises StorageError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (draw.panel_kind, draw.bar_paths, draw.curve_paths):
        environment.globals[function.__name__] = function
    return environment


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
