"""The keys of `[workflow]` with `kind = "command"`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from harness.config.config_base import Text
from harness.config.request_settings import may_be_secret
from harness.config.tables import Duration, SettingError
from harness.workflows.code_section import CodeSection, short_digest
from harness.workflows.command.environment import KEY_FIELD, has_field

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _arguments(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        meant = shlex.split(value)
    except ValueError:  # a quotation mark without its second one
        meant = value.split()
    raise SettingError(
        f"must be a list, as there is no shell; write {json.dumps(meant)}", value=value
    )


def _variables(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not _VARIABLE.match(name):
            raise SettingError("is not the name of an environment variable; correct it", name)
        if may_be_secret(name, value) and not has_field(value):
            raise SettingError(
                "may be a secret, which is not written in a file; leave it out, as the command has "
                f"the variables of this shell, or write '{KEY_FIELD}' for a key that the gateway "
                "accepts",
                name,
            )
    return values


class CommandSection(CodeSection):
    """A workflow that is one run of a command. A run executes this command.

    Example::

        [workflow]
        command = ["node", "app.js", "{topic}"]
        topics = ["ocean tides", "river deltas"]
        env = { OPENAI_API_BASE = "{gateway}" }
        calls = { chat = 6 }
    """

    kind: Literal["command"] = "command"
    """The kind of workflow."""
    command: Annotated[
        tuple[Text, ...], Field(min_length=1, strict=False), BeforeValidator(_arguments)
    ]
    """The program and its arguments, without a shell; `{topic}` stands for the topic. See
    docs/your-program.md.
    """
    folder: Text = "."
    """The folder in which it runs, relative to the folder of the scenario."""
    env: Annotated[dict[str, str], AfterValidator(_variables)] = Field(default_factory=dict)
    """Environment variables beside `OPENAI_BASE_URL` and `OPENAI_API_KEY`. `{gateway}` stands for
    the URL of the gateway, `{key}` for a key that it accepts, `{topic}` for the topic.
    """
    own_time_limit: Duration = 600.0
    """A workflow fails if it makes no call for longer than this, in real time."""

    @property
    def code(self) -> str:
        """The command, with hashes of the files that it names."""
        files = {one: short_digest(Path(self.folder, one)) for one in self.command}
        hashes = [f"{name}: sha256 {digest}" for name, digest in files.items() if digest]
        return shlex.join(self.command) + (f" ({', '.join(hashes)})" if hashes else "")

    @property
    def needs_event_loop(self) -> bool:
        """Whether a workflow runs only in an event loop."""
        return True

    @property
    def is_process(self) -> bool:
        """Whether a workflow is a process, which needs real time."""
        return True
