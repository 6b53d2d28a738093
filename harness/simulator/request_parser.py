"""Parses request bodies: strictly for the fields that it uses, leniently for all others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

MOST_ITEMS = 1000
_SUB_QUESTIONS = r"(\d{1,9})\s+(?:\w+\s+){0,2}sub-?\s?questions"
_COUNT = re.compile(_SUB_QUESTIONS, re.IGNORECASE)
_EXACT_COUNT = re.compile(rf"exactly\s+{_SUB_QUESTIONS}", re.IGNORECASE)
_EXACTLY = re.compile(r"\bexactly\s+(\d{1,9})\b", re.IGNORECASE)
_JSON_FORMATS = ("json_object", "json_schema")
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
    items of the requested JSON list, None for text; `key`: the key of the list.
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


def parse_request(body: bytes, phase: str | None = None) -> ChatRequest:
    """Read the body of POST /v1/chat/completions. Raises BadRequestError.

    `phase`: from the request's header.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequestError("the body is not valid JSON") from None
    except RecursionError:
        raise BadRequestError("the body is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list with at least one message", "messages")
    pairs = [_message(item, position) for position, item in enumerate(messages)]
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("model must be a string", "model")
    if value.get("n") not in (None, 1):
        raise BadRequestError("n must be 1", "n")
    options, wanted = value.get("stream_options"), value.get("response_format")
    return make_request(
        pairs,
        model=model,
        phase=phase,
        wants_json=isinstance(wanted, dict)
        and wanted.get("type") in ("json_object", "json_schema"),
        max_tokens=_max_tokens(value),
        stream=_flag(value, "stream"),
        include_usage=isinstance(options, dict) and _flag(options, "include_usage"),
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
) -> ChatRequest:
    """Return the request; `messages`: at least one pair of role and content."""
    last = messages[-1][1]
    items = _items(last, wants_json)
    named = _LIST_KEY.search(last) if items is not None else None
    return ChatRequest(
        model=model,
        prompt=_encode(messages),
        input_tokens=sum([-(-len(content) // 4) + 4 for _, content in messages]),
        phase=phase,
        subject=_subject([content for role, content in messages if role == "user"]),
        items=items,
        key=named[1] if named else "sub_questions",
        max_tokens=max_tokens,
        stream=stream,
        include_usage=include_usage,
    )


def _message(item: Any, position: int) -> tuple[str, str]:
    where = f"messages.{position}"
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise BadRequestError("a message must be an object with a role", where)
    content = item.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise BadRequestError("content must be a string or a list of parts", f"{where}.content")
    thoughts = item.get("reasoning_content")
    return item["role"], (thoughts if isinstance(thoughts, str) else "") + (content or "")


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


def _max_tokens(value: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = value.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise BadRequestError(f"{name} must be a whole number of at least 1", name)
        return limit
    return None


def _flag(value: dict[str, Any], name: str) -> bool:
    flag = value.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise BadRequestError(f"{name} must be true or false", name)
    return bool(flag)
