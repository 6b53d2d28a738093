"""Reads a scenario file (TOML): applies overrides, and validates the scenarios of all cells.

Every mistake is one line with the file or the override, the key, the value and the way out.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.bench.scenario import Scenario, Sweep, option_name, sweep_objection
from harness.config.request_settings import in_folder_of_scenario
from harness.config.tables import SettingError, parse_override
from harness.config.validation_messages import message_of, one_line, setting_message
from harness.records.errors import InputError
from harness.records.settings import (
    join_key,
    setting_of,
    split_key,
    with_settings,
    without_setting,
)
from harness.workflows.text_files import read_texts


def load_scenario(
    path: Path,
    overrides: Sequence[str] = (),
    change: Callable[[dict[str, Any]], object] | None = None,
) -> Scenario:
    """Read a scenario file and apply `dotted.key=value` overrides.

    `change`: changes the values of the file before the overrides are applied. Raises InputError,
    one line: the file, the key, the value and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _input_error(path, "no such file; give the path of a scenario (TOML)") from None
    except (OSError, ValueError) as error:
        raise _input_error(path, f"cannot be read ({error}); give a TOML file") from None
    return parse_scenario(text, str(path), overrides, path.parent, change)


def parse_scenario(
    text: str,
    where: str,
    overrides: Sequence[str] = (),
    folder: Path = Path(),
    change: Callable[[dict[str, Any]], object] | None = None,
) -> Scenario:
    """Parse the text of a scenario. Raises InputError.

    `where`: its name in errors. `folder`: the folder of the files that it names. `change`: as in
    `load_scenario`. The value of an override is text where the key takes text, even if it looks
    like a number.
    """
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise _input_error(where, f"invalid TOML: {error}; correct it") from None
    except RecursionError:  # its text depends on where the limit was reached
        raise _input_error(where, "invalid TOML: nested too deeply; correct it") from None
    if change is not None:
        change(values)
    for override in overrides:
        apply_override(values, override)
    try:
        typed = {_key(override) for override in overrides}
        read_texts(values, folder, typed)
        in_folder_of_scenario(values, folder, typed)
    except SettingError as error:
        raise _located(where, overrides, *setting_message(error, values)) from None
    as_text: set[str] = set()
    while True:
        try:
            return validated(values, where, overrides)
        except _TextExpectedError as error:
            if error.override in as_text:
                raise
            as_text.add(error.override)
            key, _, value = error.override.partition("=")
            values = with_settings(values, {key.strip(): value.strip()})


class _TextExpectedError(InputError):
    """The value of `override` was read as TOML of another type, and the key takes text."""

    def __init__(self, message: str, override: str) -> None:
        super().__init__(message)
        self.override = override


def validated(values: dict[str, Any], where: str, overrides: Sequence[str]) -> Scenario:
    """Validate the scenarios of all cells and return that of the first. Raises InputError.

    The values in its `sweep` are as pydantic converted them. `overrides` have been applied to
    `values`; errors name them.
    """
    swept = _swept_values(values)
    described = values.get("retry")
    for key in swept:
        section, name, *below = (*split_key(key), "")
        if section == "retry" and below[:-1] and name not in (described or {}):
            what = f"sweep.{json.dumps(key)}: no policy {name!r} is described; write [retry.{name}]"
            raise _located(where, overrides, f"sweep.{json.dumps(key)}", f"{what} with its kind")
    for override, key in itertools.product(overrides, swept):
        if _parts(_key(override))[: len(split_key(key))] == split_key(key):
            instead = f"the sweep has that key; set sweep.{json.dumps(key)} instead"
            raise _input_error(f"--set {override}", instead)
    scenarios = {
        numbers: _with_choice(values, swept, numbers, where, overrides)
        for numbers in itertools.product(*(range(len(options)) for options in swept.values()))
    }
    resolved: dict[str, list[Any]] = {}
    for place, (key, options) in enumerate(swept.items()):
        resolved[key] = []
        for number, option in enumerate(options):
            numbers = tuple(number if other == place else 0 for other in range(len(swept)))
            value = setting_of(scenarios[numbers].as_dict(), key)
            if value is None and option is not None:
                what = (
                    f"{option_name(key, number)}: has no effect; no policy of sweep.retry uses it"
                )
                raise _located(where, overrides, f"sweep.{json.dumps(key)}", what)
            resolved[key].append(value)
    if resolved:
        values = {**values, "sweep": {**values["sweep"], **resolved}}
    return _with_choice(values, resolved, [0] * len(swept), where, overrides)


def _swept_values(values: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return the options of the dotted keys of `[sweep]` that can be swept."""
    sweep = values.get("sweep")
    found: dict[str, Sequence[Any]] = {}
    for key, options in sweep.items() if isinstance(sweep, Mapping) else ():
        if key not in Sweep.model_fields and sweep_objection(key) is None:
            listed = options if isinstance(options, list | tuple) else [options]
            if listed:
                found[key] = listed
    return found


def _with_choice(
    values: Mapping[str, Any],
    swept: Mapping[str, Sequence[Any]],
    numbers: Sequence[int],
    where: str,
    overrides: Sequence[str],
) -> Scenario:
    """Return the scenario in which each swept key has the option with its one of `numbers`."""
    choice = dict(zip(swept, numbers, strict=True))
    try:
        chosen = with_settings(values, {key: swept[key][at] for key, at in choice.items()})
    except ValueError as error:
        raise _input_error(where, f"sweep: {error}; check the key") from None
    try:
        return Scenario.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        key, what = message_of(first, chosen)
        wants_text = first["type"] == "string_type"
    for name, number in choice.items():
        if f"{_without_positions(key)}.".startswith(f"{name}."):
            what = option_name(name, number) + what.removeprefix(name)
            key = f"sweep.{json.dumps(name)}"
            break
    else:
        others = [option_name(name, number) for name, number in choice.items() if number]
        what = f"with {' and '.join(others)}: {what}" if others else what
        for override in overrides if wants_text else ():
            if _parts(_key(override)) == _parts(key):
                raise _TextExpectedError(one_line(f"--set {what}"), override)
    raise _located(where, overrides, key, what)


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in the tables of a scenario; without a value, remove the key.

    Raises InputError.
    """
    key, value = parse_override(override)
    try:
        if not override.partition("=")[2].strip():
            changed = without_setting(values, key)
            values.clear()
            values.update(changed)
        else:
            values.update(with_settings(values, {key: value}))
    except ValueError as error:
        raise _input_error(f"--set {override}", f"{error}; correct the key") from None


def _located(where: str, overrides: Sequence[str], key: str, text: str) -> InputError:
    """Return an error about `key` that names the override that set it, or else the file."""
    wrong = _parts(_without_positions(key))
    for override in overrides:
        was_set = _parts(_key(override))
        # An override can also make a table that is unknown or has the wrong type.
        shorter = min(len(wrong), len(was_set))
        if wrong[:shorter] == was_set[:shorter] and shorter:
            return InputError(one_line(f"--set {text}"))
    for override in overrides:
        *table, last = _parts(_key(override))
        # The file may have keys of another kind in this table, or lack those of the new one.
        if table and last == "kind" and wrong[: len(table)] == table:
            _, kind = parse_override(override)
            whole = f"{join_key(table)}={{kind = {json.dumps(kind)}, ...}}"
            return _input_error(
                f"--set {override}", f"{text}; give the table of this kind: --set '{whole}'"
            )
    return _input_error(where, text)


def _without_positions(key: str) -> str:
    return re.sub(r"\[\d+\]", "", key)


def _parts(key: str) -> list[str]:
    try:
        return split_key(key)
    except ValueError:
        return key.split(".") if key else []


def _input_error(where: object, what: str) -> InputError:
    return InputError(one_line(f"{where}: {what}"))
