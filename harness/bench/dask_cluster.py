"""Connects to a Dask cluster and checks that its machines make the same records as this one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.bench.cells import expand, scenarios_by_cell
from harness.bench.dask_shares import machine_identity
from harness.bench.same_versions import first_difference, version_facts
from harness.bench.scenario import Scenario
from harness.config.validation_messages import one_line
from harness.records.errors import InputError, PreflightError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT = 10.0
"""Seconds in which the scheduler has to answer."""
_FIRST_WORKER = 30.0
"""Seconds in which the first worker has to come."""
_SILENT = logging.CRITICAL + 1


@contextmanager
def dask_client(address: str) -> Iterator[Client]:
    """Connect to the scheduler at `address`, which can be the path of its scheduler file.

    Raises InputError if Dask is not installed, and PreflightError if there is no scheduler, no
    worker, or one with other versions. Each is one line.
    """
    distributed = _imported(address)
    place: dict[str, Any] = {"address": address}
    if Path(address).is_file():
        place = {"scheduler_file": address}
    else:
        _check_address(address)
    try:
        with warnings.catch_warnings():  # of versions, which are checked below
            warnings.simplefilter("ignore")
            client = distributed.Client(
                **place, timeout=_CONNECT, set_as_default=False, name="harness"
            )
    except (OSError, ValueError, TypeError) as error:
        raise _refused(
            address,
            f"no scheduler answers ({_text(error)}); start one with `dask scheduler`, and "
            "give the address that it prints",
        ) from None
    try:
        _check_cluster(client, address)
        yield client
    finally:
        client.close(timeout=2)


def workers_for(scenario: Scenario, address: str) -> int:
    """Return how many workers can run a scenario. Raises InputError or PreflightError, one line."""
    adaptive = next((cell.limiter for cell in expand(scenario) if cell.limiter), None)
    if not scenario.is_virtual and adaptive is not None:
        raise InputError(
            f"--dask {address}: the limit {adaptive!r} adapts to a whole trial, and each worker "
            "has a fixed share of the permits; leave it out of sweep.permits, or use --processes"
        )
    with dask_client(address) as client:
        local = [] if scenario.is_virtual else list(map(_local_server, _endpoints(scenario)))
        if any(local):
            here = _machine_here()
            for worker, there in client.run(machine_identity).items():
                if there != here:
                    raise PreflightError(
                        f"--dask {address}: the endpoint is {next(filter(None, local))}, which the "
                        f"worker {worker} on another machine cannot reach; serve it with `harness "
                        "serve --host ADDRESS`, and give its URL with --endpoint and --model"
                    )
        return len(client.nthreads())


def _endpoints(scenario: Scenario) -> list[Any]:
    return [mine.endpoint for mine in scenarios_by_cell(scenario).values()]


def _local_server(endpoint: Any) -> str:
    """Return what kind of server an endpoint has that only this machine reaches, or nothing."""
    if endpoint.facts.own_server:
        return "a server on this machine"
    url = getattr(endpoint, "base_url", "")
    host = urlsplit(url).hostname or ""
    try:
        is_local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_local = False
    return url if is_local else ""


def _imported(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--dask {address}: needs the package distributed ({error}); install it with "
            "pip install 'fanout-harness[dask]'"
        ) from None
    for name in ("distributed", *_children_of("distributed")):
        logging.getLogger(name).setLevel(_SILENT)  # what matters is an error of one line
    return distributed


def _check_address(address: str) -> None:
    """Refuse what is no address of a scheduler: a Client of it would print a traceback later."""
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        parse_host_port(parse_address(address)[1])
    except ValueError:
        raise InputError(
            one_line(
                f"--dask {address}: no such file, and no address with a port; give the address "
                "that `dask scheduler` prints, such as tcp://10.0.0.5:8786"
            )
        ) from None


def _children_of(parent: str) -> list[str]:
    return [name for name in logging.root.manager.loggerDict if name.startswith(f"{parent}.")]


def _check_cluster(client: Client, address: str) -> None:
    """Raise PreflightError if the scheduler or a worker has other versions, or none has come."""
    ours = _versions_here()
    try:
        scheduler = client.run_on_scheduler(version_facts)
    except Exception as error:
        raise _refused(address, f"the scheduler cannot run the harness ({_text(error)})") from None
    _require_same(ours, scheduler, address, "the scheduler")
    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER)
    except TimeoutError:
        raise _refused(
            address,
            f"no worker has come in {_FIRST_WORKER:.0f} s; start some with `dask worker ADDRESS`",
        ) from None
    for worker, facts in client.run(version_facts, on_error="return").items():
        if isinstance(facts, Exception):
            why = f"the worker {worker} cannot run the harness ({_text(facts)})"
            raise _refused(address, why)
        _require_same(ours, facts, address, f"the worker {worker}")


def _require_same(
    ours: Mapping[str, str], theirs: Mapping[str, str], address: str, who: str
) -> None:
    difference = first_difference(ours, theirs)
    if difference is not None:
        raise _refused(address, f"{who} {difference}")


_SAME = "install the same on all machines (docs/cluster.md)"


def _refused(address: str, what: str) -> PreflightError:
    way_out = "" if ";" in what else f"; {_SAME}"
    return PreflightError(one_line(f"--dask {address}: {what}{way_out}"))


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _versions_here() -> Mapping[str, str]:
    return version_facts()


def _machine_here() -> str:
    return machine_identity()
