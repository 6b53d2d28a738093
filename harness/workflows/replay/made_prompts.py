"""Prompts of given lengths, without the content of the recorded ones.

Every word has three letters and a blank: one token for the tokenizers of most models, and one for
estimates, which count four characters a token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from harness.engine.effects import Message
from harness.workflows.layout import CHARACTERS_A_TOKEN, tokens_of
from harness.workflows.replay.data_file import ReplayedCall

_WORDS = (
    "the", "and", "for", "are", "but", "not", "you", "all", "any", "can", "had", "her", "was",
    "one", "our", "out", "day", "get", "has", "him", "his", "how", "man", "new", "now", "old",
    "see", "two", "way", "who", "boy", "did", "its", "let", "put", "say", "she", "too", "use",
    "act", "add", "age", "ago", "air", "arm", "art", "ask", "bad", "bag", "bar", "bed", "big",
    "bit", "box", "bus", "buy", "car", "cat", "cup", "cut", "dog",
)  # fmt: skip
_BLOCK = 1 << 16
_HEAD = 16
"""Words at the beginning that tell prompts apart, so that no prefix cache knows them."""
_AROUND = tokens_of([Message("user", "")])


@lru_cache(maxsize=1)
def _block() -> str:
    chance = Random(0)  # noqa: S311 - any text will do
    return "".join(f"{word} " for word in chance.choices(_WORDS, k=_BLOCK))


def made_prompts(calls: Sequence[ReplayedCall], key: str) -> list[str]:
    """Return a prompt of the recorded length for each call of a workflow; `key` tells them apart.

    As many tokens as were read from a cache are the beginning of the prompt of the longest call
    that it waits for, if that is long enough, or else of a text that all workflows share.
    """
    texts: list[str] = []
    for number, call in enumerate(calls):
        words = max(call.input - _AROUND, 1)
        shared = min(call.cached or 0, words)
        own = _own(f"{key}\x1f{number}", words - shared)
        before = max((texts[one] for one in call.after), key=len, default="")
        if len(before) < shared * CHARACTERS_A_TOKEN:
            before = _own("shared", shared)
        texts.append(before[: shared * CHARACTERS_A_TOKEN] + own)
    return texts


def _own(key: str, words: int) -> str:
    digest = hashlib.sha256(key.encode()).digest()
    head = "".join(f"{_WORDS[byte % len(_WORDS)]} " for byte in digest[:_HEAD])
    begin = int.from_bytes(digest[_HEAD:20]) % _BLOCK * CHARACTERS_A_TOKEN
    size, block = words * CHARACTERS_A_TOKEN, _block()
    rest = block[begin:] + block * (size // len(block) + 1)
    return (head + rest)[:size]
