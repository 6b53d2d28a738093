"""A Dask cluster of three worker processes on this machine."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def three_workers() -> Iterator[LocalCluster]:
    """Start a cluster without a dashboard. It replaces a worker that was killed."""
    with LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


def kill_a_worker(cluster: LocalCluster) -> str:
    """Kill the process of a worker, and return its address."""
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        worker, pid = next(iter(client.run(os.getpid).items()))
        os.kill(pid, signal.SIGKILL)
    return str(worker)
