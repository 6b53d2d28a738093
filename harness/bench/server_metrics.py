"""Reads the metrics of the model's own server during a trial, in a thread, once a second.

The server answers in Prometheus' text format. A reading has a limit of time and of size, and one
that fails is recorded and ends nothing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import responses
from typing import NamedTuple
from urllib.parse import urlsplit

from harness.config.network import tls_context
from harness.config.request_settings import RequestSettings
from harness.network.limited_http import HTTP_ERRORS, LimitedHttp
from harness.records.clock import ReadClock
from harness.records.server_sample import ServerSample

EVERY = 1.0
"""Seconds between two readings."""
MOST_READING_SECONDS = 0.5
"""Seconds for one reading."""
MOST_METRICS_BYTES = 2_000_000
"""Bytes of one answer."""

RUNNING = (
    b"vllm:num_requests_running", b"sglang:num_running_reqs", b"llamacpp:requests_processing",
    b"harness_simulator_requests_running",
)  # fmt: skip
WAITING = (
    b"vllm:num_requests_waiting", b"sglang:num_queue_reqs", b"llamacpp:requests_deferred",
    b"harness_simulator_requests_waiting",
)  # fmt: skip
KV_CACHE = (
    b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc", b"sglang:token_usage",
    b"llamacpp:kv_cache_usage_ratio",
)  # fmt: skip
"""The names in the documentation of vLLM (the second of its KV cache until 0.9), SGLang, llama.cpp,
and of the simulated provider: https://docs.vllm.ai/en/stable/usage/metrics/,
https://docs.sglang.io/references/production_metrics.html, the README of llama.cpp's server."""


class LoadSeen(NamedTuple):
    """What one answer says; None for what it does not say."""

    running: float | None
    waiting: float | None
    kv_cache: float | None


def read_load(text: bytes) -> LoadSeen:
    """Read an answer. Requests of several engines or models are added; of their caches, the
    fullest counts.
    """
    running, waiting, caches = (_values(text, names) for names in (RUNNING, WAITING, KV_CACHE))
    return LoadSeen(
        sum(running) if running else None,
        sum(waiting) if waiting else None,
        max(caches) if caches else None,
    )


def _values(text: bytes, names: tuple[bytes, ...]) -> list[float]:
    """Return the finite values of the first of `names` that the text has."""
    lines = b"\n" + text
    for name in names:
        # Searched and not split into lines: most of a long answer is other metrics.
        rests, at = [], lines.find(b"\n" + name)
        while at >= 0:
            begin = at + 1 + len(name)
            end = lines.find(b"\n", begin)
            rests.append(lines[begin:] if end < 0 else lines[begin:end])
            at = lines.find(b"\n" + name, begin)
        if values := [value for rest in rests if (value := _value(rest)) is not None]:
            return values
    return []


def _value(rest: bytes) -> float | None:
    """Return the value after a name: `{labels} value timestamp`; None if it is another name."""
    if rest[:1] not in (b" ", b"{"):
        return None
    fields = rest.rpartition(b"}")[2].split()
    try:
        value = float(fields[0])
    except (ValueError, IndexError):
        return None
    return value if math.isfinite(value) else None


class _Reader:
    """Takes samples until it is stopped."""

    def __init__(self, url: str, key: str | None, now: ReadClock, request: RequestSettings) -> None:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        tls = tls_context(True, request.ca_file, verify=request.verify) if is_secure else None
        self._http = LimitedHttp(parts.hostname or "", port, tls)
        self._path = parts.path or "/"
        self._headers = {"accept": "text/plain", "accept-encoding": "identity"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"
        self._now = now
        self.stop = threading.Event()
        self.readings: list[tuple[int, int, LoadSeen | str]] = []

    def run(self) -> None:
        while not self.stop.is_set():
            began = self._now()
            load = self._read()
            self.readings.append((began, self._now() - began, load))
            self.stop.wait(EVERY)
        self._http.close()

    def _read(self) -> LoadSeen | str:
        """Return what the server says, or why there is no reading."""
        try:
            answer = self._http.exchange(
                "GET", self._path, None, self._headers, MOST_READING_SECONDS, MOST_METRICS_BYTES
            )
        except TimeoutError:
            return f"no answer within {MOST_READING_SECONDS:g} s"
        except HTTP_ERRORS as error:
            return str(
                getattr(error, "strerror", None) or "hangs up or does not speak HTTP"
            ).lower()
        if answer.status != 200:
            return f"answered {answer.status} {responses.get(answer.status, '')}".rstrip()
        if answer.body is None:
            return "its answer is incomplete or too long"
        load = read_load(answer.body)
        return load if any(one is not None for one in load) else "none of the known metrics"


@contextmanager
def sampling(
    url: str | None,
    key: str | None,
    now: ReadClock,
    key_of_trial: tuple[str, int, int],
    request: RequestSettings = RequestSettings(),  # noqa: B008 - immutable
) -> Iterator[list[ServerSample]]:
    """Read the metrics at `url` while the context lasts; the list is filled at its end.

    `key`: sent as in requests to the model. `key_of_trial`: cell, repeat and execution. `request`:
    which certificates are trusted, as in requests to the model. Nothing is read if `url` is None.
    """
    samples: list[ServerSample] = []
    if url is None:
        yield samples
        return
    reader = _Reader(url, key, now, request)
    # A daemon, because a resolver that hangs must not keep the run from ending.
    thread = threading.Thread(target=reader.run, name="server metrics", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        reader.stop.set()
        thread.join(2 * MOST_READING_SECONDS)
        cell, repeat, execution = key_of_trial
        for began, took, load in list(reader.readings):
            said = {"problem": load} if isinstance(load, str) else load._asdict()
            samples.append(
                ServerSample(
                    cell=cell, repeat=repeat, execution=execution, time=began, took=took, **said
                )
            )  # fmt: skip
