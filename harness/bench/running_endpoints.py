"""The endpoints of a run: their servers, and the targets of the attempts."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from harness.bench import cells
from harness.bench.race import TrialBatch
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.config.request_settings import Secrets
from harness.endpoints.section import EndpointServer
from harness.records.clock import Anchor
from harness.store import run_directory
from harness.transports.target import Target


def target_of(
    scenario: Scenario, run_id: str, anchor: Anchor, server: EndpointServer, secrets: Secrets
) -> Target:
    """Return the target of the attempts of a run: `server`, which has been started."""
    endpoint, facts = scenario.endpoint, scenario.endpoint.facts
    by_phase, settings = facts.extra_body_by_phase, scenario.plan.settings
    return Target(
        base_url=server.base_url,
        api_key=server.api_key,
        model=endpoint.model,
        stream=endpoint.stream,
        extra_body=facts.extra_body,
        run_id=run_id,
        anchor=anchor,
        simulated=facts.simulation is not None,
        extra_body_by_phase={
            **by_phase,
            **{name: by_phase.get(setting, {}) for name, setting in settings.items()},
        },
        settings=settings,
        reuse_connections=facts.reuse_connections,
        own_server=facts.own_server,
        reading=facts.reading,
        request=facts.request.with_values(dict(secrets.variables)),
        secrets=(*secrets.texts, *Secrets(server.api_key).texts),
        keep_error_bodies=scenario.keep_error_bodies,
        client=endpoint.client,
    )


class RunningEndpoint(NamedTuple):
    """The scenario of a cell, its server, and the target of its attempts."""

    scenario: Scenario
    server: EndpointServer
    target: Target


def start_endpoints(
    begun: RunProgress,
    secrets: Mapping[str, Secrets],
    first: TrialBatch,
    directory: Path,
    running: ExitStack,
) -> dict[str, RunningEndpoint]:
    """Start the servers of the cells in the first batch. Returns the endpoints by cell id.

    Later batches have no other cells.

    The transports, whose import is slow, are imported meanwhile.
    """
    servers: dict[tuple[Secrets, str], EndpointServer] = {}
    endpoints = {}
    with ThreadPoolExecutor(1) as importing:
        importing.submit(import_module, "harness.bench.modes")  # an error is raised again below
        for cell, mine in cells.scenarios_by_cell(begun.scenario).items():
            if cell not in first.cells:
                continue
            key = (secrets[cell], cells.server_key(mine))
            if key not in servers:
                log = directory / run_directory.provider_log(begun.run.execution, len(servers))
                server = mine.endpoint.server(secrets[cell].api_key, mine.seed, log)
                servers[key] = running.enter_context(server)
            target = target_of(mine, begun.run.run_id, begun.run.zero, servers[key], secrets[cell])
            endpoints[cell] = RunningEndpoint(mine, servers[key], target)

    from harness.bench.modes import prepare_client

    for endpoint in endpoints.values():
        prepare_client(endpoint.target)
    return endpoints
