"""The library runs in the kernel of a notebook, whose event loop is running."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.docs.test_library import CELLS

pytestmark = pytest.mark.more

PATIENCE = 300
INSIDE_A_LOOP = """
import asyncio
assert asyncio.get_running_loop().is_running()
quick = harness.run("quickstart", {"sweep.repeats": 1, "load.workflows": 2}, out="results/inside")
print(quick.summary.status)
await main()
"""


def said_by(client: Any, code: str) -> str:
    """Run a cell of a notebook, and return what it printed."""
    printed: list[str] = []

    def note(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=PATIENCE, output_hook=note)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", ()))
    return "".join(printed)


def test_every_cell_of_the_document_runs_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    root = str(Path(__file__).parents[2])
    manager = KernelManager()
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE)
        said_by(client, f"import sys; sys.path.insert(0, {root!r})")
        printed = [said_by(client, cell) for cell in CELLS]
        assert "async_8_none_attempt" in printed[0]
        assert said_by(client, INSIDE_A_LOOP) == "complete\ncomplete\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
