"""Parses request bodies: strictly for the fields that it uses, leniently for all others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from harness.simulator.answer_form import AnswerForm, ApiName, Tool

MOST_ITEMS = 1000
_SUB_QUESTIONS = r"(\d{1,9})\s+(?:\w+\s+){0,2}sub-?\s?questions"
_COUNT = re.compile(_SUB_QUESTIONS, re.IGNORECASE)
_EXACT_COUNT = re.compile(rf"exactly\s+{_SUB_QUESTIONS}", re.IGNORECASE)
_EXACTLY = re.compile(r"\bexactly\s+(\d{1,9})\b", re.IGNORECASE)
JSON_FORMATS = ("json_object", "json_schema")
"""The types of a format in which an answer is JSON, in all APIs."""
_LIST_KEY = re.compile(r'"(\w{1,64})"\s*:\s*\[')
_TOPIC = re.compile(r"^\s*topic:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"\w+")
_encode = msgspec.json.Encoder().encode


class BadRequestError(Exception):
    """An invalid body, which is answered with 400. `param`: the invalid field, or None."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ChatRequest(msgspec.Struct, frozen=True, gc=False):
    """One request for a completion.

    `prompt`: the messages in a canonical form, from which random numbers are derived.
    `input_tokens`: a quarter of the characters, plus four per message. `phase`: the setting of the
    phase that the client names, or None. `subject`: the subject of the text. `items`: the number of
    items of the requested JSON list, None for text; `key`: the key of the list. `form`: what is
    wanted besides plain text from the chat completions API; None for nothing. `lengths`: the tokens
    of reasoning and answer; None to draw them as the profile says.
    """

    model: str
    prompt: bytes
    input_tokens: int
    phase: str | None
    subject: str
    items: int | None
    key: str
    max_tokens: int | None
    stream: bool
    include_usage: bool
    form: AnswerForm | None = None
    lengths: tuple[int, int] | None = None

    @property
    def api(self) -> ApiName:
        """The API that the request was sent to."""
        return "chat" if self.form is None else self.form.api

    @property
    def is_for_text(self) -> bool:
        """Whether the answer is text, and not vectors."""
        return self.form is None or self.form.embedding is None


def parse_request(body: bytes, phase: str | None = None) -> ChatRequest:
    """Read the body of POST /v1/chat/completions. Raises BadRequestError.

    `phase`: from the request's header.
    """
    return parse_chat(read_object(body), phase)


def read_object(body: bytes) -> dict[str, Any]:
    """Read a body that is a JSON object. Raises BadRequestError."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequestError("the body is not valid JSON") from None
    except RecursionError:
        raise BadRequestError("the body is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    return value


def parse_chat(value: dict[str, Any], phase: str | None) -> ChatRequest:
    """Read a request of the chat completions API. Raises BadRequestError."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list with at least one message", "messages")
    pairs = [_message(item, position) for position, item in enumerate(messages)]
    if value.get("n") not in (None, 1):
        raise BadRequestError("n must be 1", "n")
    options, wanted = value.get("stream_options"), value.get("response_format")
    return make_request(
        pairs,
        model=model_of(value),
        phase=phase,
        wants_json=isinstance(wanted, dict) and wanted.get("type") in JSON_FORMATS,
        max_tokens=max_tokens_of(value, "max_completion_tokens", "max_tokens"),
        stream=flag(value, "stream"),
        include_usage=isinstance(options, dict) and flag(options, "include_usage"),
        form=_form(value, messages, wanted),
    )


def make_request(
    messages: Sequence[tuple[str, str]],
    *,
    model: str,
    phase: str | None,
    wants_json: bool,
    max_tokens: int | None,
    stream: bool,
    include_usage: bool,
    form: AnswerForm | None = None,
) -> ChatRequest:
    """Return the request; `messages`: at least one pair of role and content."""
    last = messages[-1][1]
    items = _items(last, wants_json)
    named = _LIST_KEY.search(last) if items is not None else None
    key = named[1] if named else "sub_questions"
    prompt = _encode(messages)
    input_tokens = sum([-(-len(content) // 4) + 4 for _, content in messages])
    if form is not None and form.asks_for_list(key):
        # the prompt alone asks for the same
        form = None if form.api == "chat" else msgspec.structs.replace(form, schema=b"")
    if form is not None:
        prompt += form.identity()
        input_tokens += form.tokens
    return ChatRequest(
        model=model,
        prompt=prompt,
        input_tokens=input_tokens,
        phase=phase,
        subject=_subject([content for role, content in messages if role == "user"]),
        items=items,
        key=key,
        max_tokens=max_tokens,
        stream=stream,
        include_usage=include_usage,
        form=form,
    )


def model_of(value: dict[str, Any]) -> str:
    """Return the model of a request. Raises BadRequestError."""
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("model must be a string", "model")
    return model


def _message(item: Any, position: int) -> tuple[str, str]:
    where = f"messages.{position}"
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise BadRequestError("a message must be an object with a role", where)
    text = content_text(item.get("content"), f"{where}.content")
    thoughts = item.get("reasoning_content")
    calls = "".join(f"{name}{arguments}" for name, arguments in _calls(item, where))
    return item["role"], (thoughts if isinstance(thoughts, str) else "") + text + calls


def content_text(content: Any, where: str) -> str:
    """Return the text of a content: a string, parts (of which only texts count), or null."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise BadRequestError("content must be a string or a list of parts", where)
    return content or ""


def _calls(message: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Return the names and arguments of the tool calls of a message."""
    calls = message.get("tool_calls")
    if not calls:
        return []
    if not isinstance(calls, list):
        raise BadRequestError("tool_calls must be a list", f"{where}.tool_calls")
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        name, arguments = name_and_arguments(function, f"{where}.tool_calls")
        found.append((name, arguments))
    return found


def name_and_arguments(function: Any, where: str) -> tuple[str, str]:
    """Return the name and the arguments of one tool call. Raises BadRequestError."""
    if isinstance(function, dict):
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and isinstance(arguments, str):
            return name, arguments
    raise BadRequestError("a tool call must have a name and arguments, both strings", where)


def _form(value: dict[str, Any], messages: list[Any], wanted: Any) -> AnswerForm | None:
    schema = None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        inner = wanted.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, dict) else None
    given = value.get("tools")
    if not given and schema is None:
        return None
    tools = read_tools(given, "function")
    choice = value.get("tool_choice")
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        choice = choice["function"]
    rounds: list[list[tuple[str, str]]] = []
    for position, message in enumerate(messages):
        if message["role"] == "user":
            rounds.clear()
        elif calls := _calls(message, f"messages.{position}"):
            rounds.append(calls)
    return make_form("chat", tools, choice, rounds, read_schema(schema, "response_format"))


def read_tools(given: Any, inner: str | None) -> list[Tool]:
    """Return the functions among the tools of a request; the others are never called.

    `inner`: the key under which a tool has its function; None if it is the function itself.
    """
    if given is None:
        return []
    if not isinstance(given, list):
        raise BadRequestError("tools must be a list", "tools")
    tools = []
    for position, tool in enumerate(given):
        where = f"tools.{position}"
        if not isinstance(tool, dict):
            raise BadRequestError("a tool must be an object", where)
        if tool.get("type") != "function":
            continue
        function = tool if inner is None else tool.get(inner)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequestError("a function must have a name", where)
        parameters = read_schema(function.get("parameters"), f"{where}.parameters")
        tools.append(Tool(function["name"], parameters or b"{}"))
    return tools


def make_form(
    api: ApiName,
    tools: list[Tool],
    choice: Any,
    rounds: Sequence[Sequence[tuple[str, str]]],
    schema: bytes,
) -> AnswerForm:
    """Return the form of an answer. Raises BadRequestError.

    `choice`: the tool choice, a word or an object with the name of a tool. `rounds`: the rounds of
    tool calls since the last message of the user. `schema`: that of the answer, empty for none.
    """
    is_required = choice in ("required", "any")
    if isinstance(choice, dict) and isinstance(choice.get("name"), str):
        is_required, tools = True, [tool for tool in tools if tool.name == choice["name"]]
    if choice == "none":
        tools = []
    if is_required and not tools:
        raise BadRequestError("no tool is given that tool_choice allows", "tool_choice")
    return AnswerForm(
        api=api,
        tools=tuple(tools),
        choice="required" if is_required else "auto",
        rounds=len(rounds),
        called=tuple(name for calls in rounds for name, _ in calls),
        schema=schema,
    )


def read_schema(schema: Any, where: str) -> bytes:
    """Return a JSON schema as JSON, empty for none. Raises BadRequestError."""
    if schema is None:
        return b""
    if not isinstance(schema, dict | bool):
        raise BadRequestError("a JSON schema must be an object", where)
    return _encode(schema)


def _items(text: str, wants_json: bool) -> int | None:
    """Return the number of items of the JSON list that a prompt asks for; None for text."""
    if not wants_json:
        if "j" not in text and "J" not in text:
            return None  # "json" is not in it; faster than a folded copy of a long report
        folded = text.casefold()
        if not ("questions" in folded and "json" in folded):
            return None
    found = _EXACT_COUNT.search(text) or _COUNT.search(text)
    if wants_json:
        found = found or _EXACTLY.search(text)
    if not found:
        return 3 if wants_json else None
    return min(int(found[1]), MOST_ITEMS)


def _subject(texts: list[str]) -> str:
    """Return the topic if a line names one; otherwise the first words of the last message."""
    last = texts[-1] if texts else ""
    for text in texts:
        if (match := _TOPIC.search(text)) is not None:
            return _of_topic(match[1])
    return _first_words(last)


@lru_cache(maxsize=1 << 14)  # all prompts of a workflow name the same topic
def _of_topic(topic: str) -> str:
    return _first_words(topic)


def _first_words(text: str) -> str:
    return " ".join([match[0] for match in islice(_WORD.finditer(text), 12)]) or "the subject"


def max_tokens_of(value: dict[str, Any], *names: str) -> int | None:
    """Return the limit of the output: the first of the keys `names`. Raises BadRequestError."""
    for name in names:
        limit = value.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise BadRequestError(f"{name} must be a whole number of at least 1", name)
        return limit
    return None


def flag(value: dict[str, Any], name: str) -> bool:
    """Return a boolean of a request, False if it is missing. Raises BadRequestError."""
    given = value.get(name)
    if given is not None and not isinstance(given, bool):
        raise BadRequestError(f"{name} must be true or false", name)
    return bool(given)
