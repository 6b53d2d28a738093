"""What a simulated provider is like: one TOML file, read once into a frozen value.

Durations are in scenario seconds, written as `"47.6ms"`, `"1.2s"`, `"2m"` or as a number of
seconds; `us` and `ns` exist for the small coefficients of the decoding speed.
"""

from __future__ import annotations

import datetime
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.errors import InputError

Kind = Literal["decompose", "research", "synthesize"]
"""What a prompt asks for; anything that is not recognised counts as research."""

_SHIPPED = Path(__file__).with_name("profiles")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h)\s*\Z")


def _seconds(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError('a duration is written like "500ms", "1.2s" or "2m"')
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError('a duration is written like "500ms", "1.2s" or "2m"')
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=86400.0)]
Coefficient = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=86400.0)]
Sigma = Annotated[float, Field(ge=0, le=2)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                nearest = _nearest(str(key), cls.model_fields)
                known = ", ".join(sorted(cls.model_fields))
                # No context: pydantic would shorten what it puts into a template.
                raise PydanticCustomError(
                    "unknown_key", f"{key}: unknown key{nearest}; known here: {known}"
                )
        return values


class Ttft(_Section):
    """Time to the first chunk of text: log-normal, plus a part that grows with the prompt."""

    median: Duration
    sigma: Sigma = 0.0
    per_1k_input_tokens: Coefficient = 0.0


class Length(_Section):
    """A number of tokens: log-normal, at least one."""

    median: float = Field(ge=1, le=1e6)
    sigma: Sigma = 0.0


class Lengths(_Section):
    """Lengths for one kind of prompt where they differ from the profile's.

    The answer to a decomposition is JSON: it is cut into as many tokens as `answer_tokens` says,
    or into tokens of about four characters when that is absent.
    """

    reasoning_tokens: Length | None = None
    answer_tokens: Length | None = None


class Profile(_Section):
    """One simulated provider.

    A request that is decoding beside n - 1 others gets a token every ITL(n + background) =
    itl_a + itl_b n + itl_c n^2 seconds: processor sharing, in which itl_b is the cost of sharing
    and itl_c that of thrashing. `source` says where the figures come from and which are assumed,
    `date` when they were taken down.
    `concurrency_cap`: above so many requests at once the answer is 429, with `retry_after` if set.
    `keep_alive_every`: how often a request that has no text yet gets a comment (streamed) or a
    blank line.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
    description: str
    source: str = Field(min_length=1)
    date: datetime.date
    ttft: Ttft
    itl_a: Duration
    itl_b: Coefficient = 0.0
    itl_c: Coefficient = 0.0
    background: float = Field(default=0.0, ge=0, le=1e6)
    reasoning_tokens: Length | None = None
    answer_tokens: Length
    decompose: Lengths = Lengths()
    synthesize: Lengths = Lengths()
    max_output_tokens: int = Field(default=32768, ge=1, le=1_000_000)
    tokens_per_chunk: int = Field(default=1, ge=1, le=10_000)
    concurrency_cap: int | None = Field(default=None, ge=1)
    retry_after: Duration | None = None
    keep_alive_every: Duration | None = None

    def lengths(self, kind: Kind) -> tuple[Length | None, Length | None]:
        """Return the lengths of reasoning and answer to a prompt of this kind.

        No reasoning: None. No answer length (a decomposition alone): the text decides.
        """
        if kind == "research":
            return self.reasoning_tokens, self.answer_tokens
        own = self.decompose if kind == "decompose" else self.synthesize
        answer = own.answer_tokens
        if answer is None and kind == "synthesize":
            answer = self.answer_tokens
        return own.reasoning_tokens or self.reasoning_tokens, answer

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; durations in seconds."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain


def shipped_profiles() -> list[Profile]:
    """Return the profiles that come with the harness, by name."""
    return [load_profile(name) for name in _shipped_names()]


def load_profile(name_or_path: str, overrides: Mapping[str, object] = {}) -> Profile:
    """Return a shipped profile by name, or one of your own by the path of its TOML file.

    `overrides` replaces keys, nested (`{"ttft": {"median": "1s"}}`) or dotted
    (`{"ttft.median": "1s"}`). Raises InputError, one line: the profile, the key, the value, and
    the way out.
    """
    where = f"profile {name_or_path}"
    values = _read(name_or_path, where)
    for key, value in overrides.items():
        _override(values, key, value, where)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error.errors()[0])}") from None


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def _read(name_or_path: str, where: str) -> dict[str, Any]:
    shipped = _shipped_names()
    if name_or_path in shipped:
        path = _SHIPPED / f"{name_or_path}.toml"
    elif name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
    else:
        raise InputError(
            f"{where}: no such profile{_nearest(name_or_path, shipped)}; "
            f"use one of {', '.join(shipped)}, or give the path of a TOML file"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{where}: no such file; mend the path or use one of {', '.join(shipped)}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {_one_line(str(error))}; mend that") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: cannot be read ({_one_line(str(error))}); give a TOML file"
        ) from None


def _override(table: dict[str, Any], key: str, value: object, where: str) -> None:
    """Put `value` at the dotted `key`; a table is merged into the table that is there."""
    first, _, rest = key.partition(".")
    if not rest and not isinstance(value, Mapping):
        table[first] = value
        return
    child = table.setdefault(first, {})
    if not isinstance(child, dict):
        raise InputError(f"{where}: {first} is a value, not a table; leave out what follows it")
    items = {rest: value} if rest else value
    assert isinstance(items, Mapping)
    for inner, inner_value in items.items():
        _override(child, str(inner), inner_value, where)


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"])
    message = _one_line(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "unknown_key":
        return f"{key}.{message}" if key else message
    if error["type"] == "missing":
        return f"{key}: missing; add it"
    shown = _one_line(repr(error["input"]))
    return f"{key} = {shown if len(shown) <= 60 else shown[:57] + '...'}: {message}"


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
