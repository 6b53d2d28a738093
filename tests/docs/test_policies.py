"""The policy of one's own in docs/policies.md is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.policies.fixed import FixedRule
from harness.policies.resolve import resolve
from harness.policies.stack import Stack
from harness.records.clock import SECOND

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()


def test_the_policy_in_the_document_can_be_built() -> None:
    [code] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    space: dict[str, Any] = {"__name__": "my_package"}
    exec(compile(code, "docs/policies.md", "exec", dont_inherit=True), space)
    described = space["TwiceSection"].model_validate({"kind": "twice", "pause": "2s"})
    parts = resolve({"it": described}, "it")
    assert parts.build(0.5, streamed=True) == Stack([], FixedRule(2, SECOND))
    assert parts.most_attempts == parts.code().attempts == 2
