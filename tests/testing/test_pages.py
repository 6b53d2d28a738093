"""The examples of docs/pytest.md run as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.test_plugin import options

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs" / "pytest.md").read_text()
PROGRAM = """
import harness


@harness.workflow
async def research(ask, topic):
    return (await ask("answer", f"What is {topic}?")).text
"""


def test_the_examples_pass_and_a_lower_limit_fails_as_shown(pytester: pytest.Pytester) -> None:
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    [scenario] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    [message] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    pytester.makepyfile(test_first=first, test_second=second, my_workflow=PROGRAM)
    pytester.makepyfile(test_lower=first.replace('"workflow_p95", 300.0', '"workflow_p95", 150.0'))
    pytester.makefile(".toml", load=scenario)
    result = pytester.runpytest_subprocess(*options(), "-p", "no:asyncio", "--strict-markers")
    result.assert_outcomes(passed=4, failed=1)
    said = " ".join(re.findall(r"^E +(.*)$", result.stdout.str(), re.MULTILINE))
    assert " ".join(message.split()).partition("/tmp/")[0] in " ".join(said.split())
