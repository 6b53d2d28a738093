"""The embeddings API: reads its requests, and makes a vector of length 1 from each input."""

from __future__ import annotations

import base64
import hashlib
import math
from array import array
from typing import Any

import msgspec

from harness.records.schema import Tokens
from harness.simulator.answer_form import AnswerForm, EmbeddingForm
from harness.simulator.rendering import WholeAnswer
from harness.simulator.request_parser import BadRequestError, ChatRequest, make_request, model_of
from harness.simulator.script import TextChunk

_DIMENSIONS = 64
_MOST_DIMENSIONS = 8192
_MOST_INPUTS = 2048


def parse_embeddings(value: dict[str, Any], phase: str | None) -> ChatRequest:
    """Read a request of the embeddings API. Raises BadRequestError."""
    encoding = value.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise BadRequestError("encoding_format must be float or base64", "encoding_format")
    dimensions = value.get("dimensions")
    if dimensions is None:
        dimensions = _DIMENSIONS
    is_whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
    if not is_whole or not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise BadRequestError(f"dimensions must be from 1 to {_MOST_DIMENSIONS}", "dimensions")
    return make_request(
        [("input", text) for text in _inputs(value.get("input"))],
        model=model_of(value),
        phase=phase,
        wants_json=False,
        max_tokens=None,
        stream=False,
        include_usage=True,
        form=AnswerForm(
            api="embeddings", embedding=EmbeddingForm(dimensions, encoding == "base64")
        ),
    )


def _inputs(given: Any) -> list[str]:
    """Return the inputs as texts: one or several, each a text or a list of tokens."""
    if isinstance(given, str) or (
        isinstance(given, list) and given and all(isinstance(one, int) for one in given)
    ):
        given = [given]
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_INPUTS:
        raise BadRequestError(f"input must be a text or a list of 1 to {_MOST_INPUTS}", "input")
    texts = []
    for position, one in enumerate(given):
        if isinstance(one, list) and one and all(isinstance(token, int) for token in one):
            one = " ".join(f"{token:04}" for token in one)
        if not isinstance(one, str) or not one:
            raise BadRequestError("an input must be a text that is not empty", f"input.{position}")
        texts.append(one)
    return texts


class EmbeddingsRendering:
    """Renders the vectors of a request; they depend on the inputs alone."""

    def __init__(self, request: ChatRequest) -> None:
        assert request.form is not None
        assert request.form.embedding is not None, "the API is that of embeddings"
        self._request = request
        self._form = request.form.embedding

    def begin(self) -> bytes:
        """Return nothing: there are no streams of vectors."""
        return b""

    def text(self, piece: TextChunk) -> bytes:
        """Return nothing: there are no streams of vectors."""
        return b""

    def end(self, finish: str, tokens: Tokens) -> bytes:
        """Return nothing: there are no streams of vectors."""
        return b""

    def whole(self, answer: WholeAnswer) -> bytes:
        """Return the body with the vectors of all inputs."""
        inputs = msgspec.json.decode(self._request.prompt, type=list[tuple[str, str]])
        data = [
            {"object": "embedding", "index": index, "embedding": self._encoded(text)}
            for index, (_, text) in enumerate(inputs)
        ]
        given = answer.tokens.input or 0
        return msgspec.json.encode(
            {
                "object": "list",
                "data": data,
                "model": self._request.model,
                "usage": {"prompt_tokens": given, "total_tokens": given},
            }
        )

    def _encoded(self, text: str) -> str | list[float]:
        vector = unit_vector(text, self._form.dimensions)
        if not self._form.in_base64:
            return vector
        return base64.b64encode(array("f", vector).tobytes()).decode()


def unit_vector(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 that depends on `text`, a list of 32-bit floats."""
    digest = hashlib.shake_256(text.encode()).digest(4 * dimensions)
    numbers = [number - (1 << 31) + 0.5 for number in array("I", digest)]
    length = math.hypot(*numbers)
    return array("f", [number / length for number in numbers]).tolist()
