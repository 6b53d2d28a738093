"""A fit as a profile: TOML with the evidence above each key."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from harness.config.toml_text import toml_value
from harness.config.validation_messages import message_of, one_line
from harness.records.errors import InputError
from harness.simulator.profiles import Profile
from harness.twin.fitted_parts import FittedPart

_WIDTH = 96
UNFITTED = (
    "not fitted: background load, a speed that wanders, second steps of the cap, keep-alives, tool "
    "calls, outages at set times, faults of single phases"
)


@dataclass(frozen=True)
class TwinHead:
    """What the profile says of itself. `day`: ISO date of the newest run."""

    name: str
    description: str
    source: str
    day: str


def twin_text(parts: Sequence[FittedPart], head: TwinHead) -> str:
    """Return the profile as TOML. Raises InputError if what was fitted makes no profile."""
    lines = [*_lines(_keys(head)), "", *_wrapped(UNFITTED)]
    for part in sorted(parts, key=lambda each: bool(each.table)):
        lines += ["", *_comment(part), *([part.table] if part.table else []), *_lines(part.keys)]
    text = "\n".join(lines) + "\n"
    _require_profile(text)
    return text


def _lines(values: Mapping[str, str]) -> list[str]:
    return [f"{key} = {value}" for key, value in values.items()]


def _require_profile(text: str) -> None:
    values = tomllib.loads(text)
    try:
        Profile.model_validate(values)
    except ValidationError as error:
        wrong = one_line(message_of(error.errors()[0], values).text)
        raise InputError(f"what was fitted makes no profile ({wrong}); give longer runs") from None


def _comment(part: FittedPart) -> list[str]:
    lines = _wrapped(f"{part.name}: {part.evidence}")
    for text in part.unknown:
        lines += _wrapped(f"  cannot tell: {text}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    )


def _keys(head: TwinHead) -> dict[str, str]:
    texts = {"name": head.name, "description": head.description, "source": head.source}
    return {key: toml_value(text) for key, text in texts.items()} | {"date": head.day}
