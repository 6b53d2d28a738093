"""The checks, in the order of the output and of docs/production.md."""

from __future__ import annotations

from collections.abc import Iterator

from harness.doctor import credentials, machine, money, probe, retries, waits
from harness.doctor.findings import Check, Examined, Finding

CHECKS: dict[str, tuple[Check, ...]] = {
    "Key and endpoint": (
        Check(
            "key",
            "Is the API key there?",
            "Without it every call is refused.",
            "Write `NAME=key` into `.env`, or export it.",
            credentials.check_key_present,
        ),
        Check(
            "key-in-git",
            "Is `.env` outside git?",
            "A key in a repository is public to all its readers, for ever.",
            "Add `.env` to `.gitignore`. A key that was committed has to be replaced.",
            credentials.check_key_in_git,
        ),
        Check(
            "key-in-scenario",
            "Is the scenario file without keys?",
            "Scenarios are shared and committed.",
            "Name the variable of the key in `endpoint.api_key_env`, and replace the key.",
            credentials.check_key_in_scenario,
        ),
        Check(
            "base-url",
            "Is `base_url` the root of the API?",
            "Requests go to `base_url` + `/chat/completions`; most servers need `/v1` before.",
            "Give the URL that the provider's documentation gives to the openai package.",
            credentials.check_base_url,
        ),
        Check(
            "proxy",
            "Can the proxies and certificates of the environment be used?",
            "A proxy that stands before your own machine answers in place of the server.",
            "List your own hosts in `NO_PROXY`; name `http://` proxies.",
            credentials.check_proxy,
        ),
        Check(
            "connection",
            "Can the server be reached?",
            "Name, port, TLS and proxy have to agree.",
            "`harness ask` shows the whole error.",
            probe.check_connection,
        ),
        Check(
            "model",
            "Does the server have the model?",
            "Another name is refused, or answered by another model.",
            "Use a name that `GET URL/models` lists.",
            probe.check_model,
        ),
        Check(
            "stream",
            "Does it answer, as a stream?",
            "A proxy that collects the stream hides the time to the first token.",
            "Switch off buffering in proxies (nginx: `proxy_buffering off`).",
            probe.check_stream,
        ),
        Check(
            "usage",
            "Does it report tokens?",
            "Budgets and costs count them; otherwise they assume the worst case.",
            "Servers report it with `stream_options.include_usage`, which the harness sends.",
            probe.check_usage,
        ),
        Check(
            "json-mode",
            "Does it accept JSON mode?",
            "Calls that ask for JSON send `response_format`.",
            "`endpoint.json_mode = false`; the prompts ask for JSON all the same.",
            probe.check_json_mode,
        ),
        Check(
            "reasoning",
            "Where does the reasoning arrive?",
            "Reasoning that is hidden uses `max_tokens` all the same.",
            "Give `workflow.max_tokens` room for reasoning and answer.",
            probe.check_reasoning,
        ),
        Check(
            "clock",
            "Is the clock right?",
            "Dates in Retry-After, traces and peak prices depend on it.",
            "Synchronise it by NTP.",
            probe.check_clock,
        ),
    ),
    "This machine": (
        Check(
            "open-files",
            "Can each permit have a connection?",
            "Every attempt in flight needs an open file.",
            "`ulimit -n NUMBER`, or fewer permits.",
            machine.check_open_files,
        ),
        Check(
            "timers",
            "Can it read as many streams as there are permits?",
            "A busy client measures its own delay.",
            "Use fewer permits in a process, or a machine that does nothing else.",
            machine.check_timers,
        ),
        Check(
            "disk",
            "Is there room for the records?",
            "A full disk stops a run.",
            "Free the disk, or name another one with `--out`.",
            machine.check_disk,
        ),
        Check(
            "collector",
            "Can the collector of spans be reached?",
            "Otherwise Jaeger stays empty.",
            "Start it, or unset `OTEL_EXPORTER_OTLP_ENDPOINT`.",
            machine.check_span_collector,
        ),
    ),
    "Timeouts and sizes": (
        Check(
            "call-timeout",
            "Is `timeouts.call` above the slowest call that was measured?",
            "A call that would succeed is given up, and its tokens are lost.",
            "Set twice the slowest p99, or use fewer permits.",
            waits.check_call_timeout,
        ),
        Check(
            "first-token",
            "Is `timeouts.first_token` long enough?",
            "Reasoning models and busy servers keep a request waiting.",
            "Set minutes for a reasoning model; remove it where nothing is streamed.",
            waits.check_first_token,
        ),
        Check(
            "max-tokens",
            "Do reasoning and answer fit into `max_tokens`?",
            "An answer that is cut within the reasoning is lost, and paid.",
            "Raise it to what 99 % of the answers needed; `harness reasoning RUN` says how many.",
            waits.check_max_tokens,
        ),
    ),
    "Retries and permits": (
        Check(
            "attempts",
            "How often is one call sent at most?",
            "Retries of several layers multiply, and prolong an outage.",
            "Use fewer attempts, or a budget or a breaker around them; retry in one layer only.",
            retries.check_multiplied,
        ),
        Check(
            "pauses",
            "Do the pauses fit into `timeouts.call`?",
            "A retry after the deadline is never made.",
            "Lower the cap or the attempts, or raise `timeouts.call`.",
            retries.check_sleeps,
        ),
        Check(
            "permanent",
            "Are only failures retried that can pass?",
            "The same request with a wrong key fails again.",
            "Give up on them.",
            retries.check_permanent,
        ),
        Check(
            "jitter",
            "Are the pauses random?",
            "Otherwise calls that failed together are sent again together.",
            '`kind = "exponential"` with `jitter = "full"`.',
            retries.check_jitter,
        ),
        Check(
            "permits",
            "Are the permits within what the server takes and the load needs?",
            "More are refused, or never used; fewer let the queue grow.",
            "Begin with the most permits without 429; arrivals need rate x calls x latency.",
            retries.check_permits,
        ),
    ),
    "Money": (
        Check(
            "budget",
            "Is the cost of a run limited?",
            "A loop of retries has no other end.",
            "`[budget]` with `usd`, `tokens` or `attempts`.",
            money.check_spending_limit,
        ),
        Check(
            "prices",
            "Are the prices known and recent?",
            "Costs are calculated from them.",
            "`[endpoint.price]`, from the provider's list.",
            money.check_prices,
        ),
    ),
}
"""The checks by topic."""


def examine(examined: Examined) -> Iterator[tuple[str, Finding]]:
    """Yield the topic and the finding of each check."""
    for topic, checks in CHECKS.items():
        for check in checks:
            found = check.find(examined)
            finding = Finding(
                check=check.name, level=found.level, reason=found.reason, fix=found.fix
            )
            yield topic, finding
