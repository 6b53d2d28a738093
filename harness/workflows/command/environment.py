"""The command of a workflow and its environment: pure functions of the texts of a scenario."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from harness.workflows.program.environment import PLACEHOLDER

KEY_FIELD = "{key}"
_FIELD = re.compile(r"\{(topic|gateway|key)\}")
_WITHOUT_PROXY = ("NO_PROXY", "no_proxy")


class CommandFields(NamedTuple):
    """What stands for the fields in the texts of a command; other braces have no meaning.

    `gateway`: its URL. `key`: what a program gets as its key; the gateway ignores it.
    """

    topic: str
    gateway: str
    key: str = PLACEHOLDER

    def fill(self, text: str) -> str:
        """Return a text of a scenario with the values of its fields."""
        return _FIELD.sub(lambda field: self._asdict()[field[1]], text)


def has_field(text: str) -> bool:
    """Return whether a text of a scenario has a field."""
    return _FIELD.search(text) is not None


def command_environment(
    inherited: Mapping[str, str],
    withheld: Collection[str],
    own: Mapping[str, str],
    fields: CommandFields,
    host: str,
) -> dict[str, str]:
    """Return the environment variables of a command.

    `inherited`: those of the harness. `withheld`: the names of those that hold keys of endpoints; a
    variable with the same value is another name of such a key, and is left out, too. `own`: those
    of the scenario. `host`: of the gateway, which is reached without a proxy.
    """
    keys = {inherited[name].strip() for name in withheld if name in inherited} - {""}
    kept = {name: value for name, value in inherited.items() if value.strip() not in keys}
    direct = {name: ",".join(filter(None, (kept.get(name), host))) for name in _WITHOUT_PROXY}
    given = {name: fields.fill(text) for name, text in own.items()}
    endpoint = {"OPENAI_BASE_URL": fields.gateway, "OPENAI_API_KEY": fields.key}
    return {**kept, **direct, **endpoint, **given}
