"""The certificates that the operating system trusts are read once in a process."""

from __future__ import annotations

import ssl

import pytest

from harness.config.network import tls_context
from harness.transports.async_transport import aiohttp_transport
from harness.transports.sync_transport import guarded_transport
from tests.transports.attempts import make_target


async def test_once_read_the_certificates_are_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = make_target(simulated=False)
    tls_context(live.trust_env)
    monkeypatch.setattr(
        ssl.SSLContext, "load_verify_locations", lambda *_, **__: pytest.fail("read again")
    )
    guarded_transport(live.base_url, live.trust_env).close()
    await aiohttp_transport(live.trust_env).aclose()
