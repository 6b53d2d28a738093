"""What docs/limits.md says of the limits, and its code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import harness.limits
from harness.bench.scenario_file import parse_scenario
from harness.limits.registry import BUILT_IN_LIMITS
from harness.limits.section import LimitSection
from tests.limits.observed import play, seen

TEXT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_every_kind_has_a_row_and_a_class() -> None:
    kinds = re.findall(r"^\| `([a-z0-9-]+)`", TEXT, re.MULTILINE)
    assert set(kinds) == set(BUILT_IN_LIMITS)
    named = re.search(r"has a class for each kind: (.*?)\. ", TEXT, re.DOTALL)
    assert named is not None
    classes = {place.partition(":")[2] for place in BUILT_IN_LIMITS.values()}
    assert set(re.findall(r"`(\w+)`", named[1])) == classes


def test_the_defaults_of_the_document_are_those_of_the_classes() -> None:
    aimd, gradient2 = harness.limits.Aimd(), harness.limits.Gradient2()
    inspect_ai, elastic = harness.limits.InspectAI(), harness.limits.Elastic()
    said = {
        f"`successes` = {aimd.successes} successes",
        f"`cooldown` = {aimd.cooldown:g} s | NVIDIA",
        f"`smoothing` = {gradient2.smoothing}, ",
        f"`long_window` = {gradient2.long_window} ",
        f"to {gradient2.decrease} L after a 429",
        f"`cooldown` = {inspect_ai.cooldown:g} s or its Retry-After",
        f"{1 + inspect_ai.growth:g} L",
        f"`grow_above` = {elastic.grow_above} ",
        f"`shrink_below` = {elastic.shrink_below} ",
        f"`cut` = {100 * elastic.cut:g} %",
        f"After a `cooldown` = {elastic.cooldown:g} s",
    }
    assert [text for text in said if text not in TEXT] == []


def test_the_scenario_of_the_document_is_valid() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    head = 'name = "x"\n[workflow]\ntopics = ["a"]\n'
    assert parse_scenario(head + block, "limits.md").permit_counts == (4, 16, 100, 32)


def test_the_client_of_the_document_can_be_made() -> None:
    code = next(block for block in BLOCKS if "AsyncOpenAI(" in block)
    space: dict[str, Any] = {}
    exec(compile(code.replace("permits=", 'api_key="k", permits='), "limits.md", "exec"), space)
    assert space["client"]._settings.permits == harness.limits.Elastic(max=64)


def test_the_kind_of_the_document_works() -> None:
    code = next(block for block in BLOCKS if "class Halving" in block)
    space: dict[str, Any] = {"__name__": "my_package"}
    exec(compile(code, "docs/limits.md", "exec", dont_inherit=True), space)
    section: LimitSection = space["Halving"](start=32)
    assert play(section.limiter(1.0), [seen(1, "rate_limited"), seen(2)]) == [32, 16, 16]
    assert section.expression() == "my_package.Halving(min=1, max=100, start=32)"
