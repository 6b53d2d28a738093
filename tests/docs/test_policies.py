"""The policy of one's own in docs/policies.md is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.policies.fixed import FixedRule
from harness.policies.registry import BUILT_IN_KINDS
from harness.policies.resolve import resolve
from harness.policies.stack import Stack
from harness.records.clock import SECOND
from tests.client.talking import in_turn, refused, stream_of
from tests.wire.fault_server import FaultServer

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()

BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_program_in_the_document_survives_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for block in BLOCKS if "harness.AsyncOpenAI(" in block)
    code = code.replace("base=1.0", "base=0.01")
    blank = stream_of()
    space: dict[str, Any] = {}
    with FaultServer(in_turn(refused(), blank, refused(429))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        exec(compile(code, "docs/policies.md", "exec", dont_inherit=True), space)
        assert space["answers"] == ["Because"] * 20
        assert len(server.seen) == 23
        assert server.most_in_service <= 8


def test_every_kind_of_the_document_is_a_class() -> None:
    kinds = re.findall(r"^\| `([a-z-]+)`", TEXT, re.MULTILINE)
    assert set(kinds) == set(BUILT_IN_KINDS)


def test_the_policy_in_the_document_can_be_built() -> None:
    code = next(block for block in BLOCKS if "class TwiceSection" in block)
    space: dict[str, Any] = {"__name__": "my_package"}
    exec(compile(code, "docs/policies.md", "exec", dont_inherit=True), space)
    described = space["TwiceSection"].model_validate({"kind": "twice", "pause": "2s"})
    parts = resolve({"it": described}, "it")
    assert parts.build(0.5, streamed=True) == Stack([], FixedRule(2, SECOND))
    assert parts.most_attempts == parts.code().attempts == 2
