"""A rehearsal pays for what the first attempt would pay for, and reaches nothing."""

from __future__ import annotations

import ssl

import pytest

from harness.records.clock import monotonic_since
from harness.transports.async_transport import aiohttp_transport
from harness.transports.exchange import tls_context
from harness.transports.rehearsal import rehearse
from harness.transports.sync_transport import default_transport
from tests.transports.attempts import ANCHOR, make_target
from tests.wire.fault_server import FaultServer


@pytest.mark.parametrize("stream", [False, True])
def test_a_rehearsal_connects_to_nothing(stream: bool) -> None:
    with FaultServer(lambda _: []) as server:
        rehearse(make_target(server.base_url, stream=stream), monotonic_since(ANCHOR))
        assert (server.connections, server.seen) == (0, [])


async def test_once_read_the_certificates_are_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = make_target(simulated=False)
    tls_context(live.trust_env)
    monkeypatch.setattr(
        ssl.SSLContext, "load_verify_locations", lambda *_, **__: pytest.fail("read again")
    )
    default_transport(live).close()
    await aiohttp_transport(live).aclose()


def test_a_rehearsal_reads_the_certificates() -> None:
    tls_context.cache_clear()
    rehearse(make_target(simulated=False), monotonic_since(ANCHOR))
    before = tls_context.cache_info().misses
    tls_context(True)
    assert tls_context.cache_info().misses == before
