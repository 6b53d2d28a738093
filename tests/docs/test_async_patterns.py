"""docs/async-patterns.md shows the code that its figures were measured with."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documents_code_is_the_benchmarks_code() -> None:
    source = (ROOT / "benchmarks" / "patterns.py").read_text()
    document = (ROOT / "docs" / "async-patterns.md").read_text()
    steps = re.findall(r"# step: [\w-]+\n(.*?)(?=\n\n\n)", source, re.DOTALL)
    shown = re.findall(r"```python\n(.*?)\n```", document, re.DOTALL)
    assert len(steps) == 9
    assert shown == [step.strip() for step in steps]
