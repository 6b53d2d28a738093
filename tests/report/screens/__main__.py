"""Records the shipped scenarios anew: `python -m tests.report.screens [--draw] [NAME ...]`.

`--draw` only draws the screens of the stored summaries anew. A scenario of a real model runs
against the simulated provider.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.endpoints.simulated import start_simulator
from tests.golden.runs import call
from tests.report.screens.recorded import WIDTHS, drawn, names, record, recorded, stored

SHORT = {
    "tokens_per_chunk": 10,
    "reasoning_tokens": {"median": 150, "sigma": 0.5},
    "answer_tokens": {"median": 120, "sigma": 0.4},
}
LIVE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "deepseek": ("deepseek-reasoner", SHORT),
    "openrouter": ("deepseek-reasoner", {**SHORT, "concurrency_cap": 6}),
    "vllm": ("vllm-single-gpu", {}),
    "azure": ("deepseek-reasoner", {**SHORT, "concurrency_cap": 6}),
    "llm-d": ("deepseek-reasoner", {**SHORT, "concurrency_cap": 12}),
    **{
        name: ("deepseek-reasoner", {**SHORT, "slots": 4})
        for name in ("sglang", "llama-cpp", "ollama", "tgi")
    },
    "local-llm": ("plain-chat", {"answer_tokens": {"median": 80, "sigma": 0.3}}),
}
"""What is simulated in place of each real model: profile and replaced keys."""
SCALE = 0.2


@contextmanager
def _settings(name: str, folder: Path) -> Iterator[list[str]]:
    """Yield the settings with which a scenario is recorded."""
    if name not in LIVE:
        yield []
        return
    profile, overrides = LIVE[name]
    variables = ("DEEPSEEK_API_KEY", "OPENROUTER_API_KEY", "AZURE_OPENAI_API_KEY")
    os.environ.update(dict.fromkeys(variables, "none"))
    with start_simulator(profile, overrides, 1, SCALE, folder / "log.jsonl") as server:
        if name == "local-llm":
            yield [f'endpoint={{kind = "openai", base_url = "{server.base_url}", model = "tiny"}}']
        else:
            price = "endpoint.price={input = 0.28, output = 0.42}"
            yield [f"endpoint.base_url={server.base_url}", *([price] if name == "deepseek" else [])]


def main(arguments: list[str]) -> None:
    """Record or draw the scenarios that are named; all of them if none is."""
    wanted = [name for name in arguments if name != "--draw"] or names()
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            if "--draw" not in arguments:
                out = Path(folder) / "out"
                with _settings(name, Path(folder)) as settings:
                    sets = [part for one in settings for part in ("--set", one)]
                    code = call(["run", name, "--quiet", "--yes", "--out", str(out), *sets])
                assert code == 0, name
                record(name, (out / "summary.json").read_bytes())
        for width in WIDTHS:
            stored(name, width).write_text(drawn(recorded(name), width))


if __name__ == "__main__":
    main(sys.argv[1:])
