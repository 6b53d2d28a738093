"""The form in which a request wants its answer: an API, tools that may be called, a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from harness.simulator.json_answers import list_key

ApiName: TypeAlias = Literal["chat", "responses", "embeddings"]
"""The APIs of the provider that serve requests to a model."""

PATHS: Mapping[str, ApiName] = {
    "/chat/completions": "chat",
    "/responses": "responses",
    "/embeddings": "embeddings",
}
"""The path of each API below the base URL."""

ToolChoice: TypeAlias = Literal["auto", "required"]


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters`: the JSON schema of its arguments."""

    name: str
    parameters: bytes


class EmbeddingForm(NamedTuple):
    """The form of vectors: their dimensions, and whether they are sent as base64."""

    dimensions: int
    in_base64: bool


class AnswerForm(msgspec.Struct, frozen=True):
    """What a request wants besides plain text from the chat completions API.

    `tools`: those that the answer may call; `choice`: whether it has to call one. `rounds`: the
    rounds of tool calls since the last message of the user; `called`: the tools called in them.
    `schema`: the JSON schema of the answer, empty for none. `embedding`: the form of vectors.
    """

    api: ApiName = "chat"
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = "auto"
    rounds: int = 0
    called: tuple[str, ...] = ()
    schema: bytes = b""
    embedding: EmbeddingForm | None = None

    def identity(self) -> bytes:
        """Return what has an effect on the answer and is not in the messages; empty for nothing."""
        if not self.tools and not self.schema:
            return b""
        return msgspec.json.encode((self.tools, self.choice)) + self.schema

    def asks_for_list(self, key: str) -> bool:
        """Return whether nothing is wanted but a list of strings under `key`."""
        is_list = bool(self.schema) and list_key(self.schema) == key
        return is_list and self == AnswerForm(api=self.api, schema=self.schema)

    @property
    def tokens(self) -> int:
        """The tokens of the tools and the schema: a quarter of their characters."""
        characters = sum(len(tool.name) + len(tool.parameters) for tool in self.tools)
        return -(-(characters + len(self.schema)) // 4)
