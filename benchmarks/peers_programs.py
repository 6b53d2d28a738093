"""Other load generators: how each is started for a load, and what it reports.

Each is started with what its documentation recommends for a large load, and without the parts that
a benchmark on one machine does not use (progress bars, telemetry of GPUs and servers).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.known_loads import Shape

PROMPT = "Topic: ocean tides. " * 8
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
ENTRIES = 64
"""Prompts in the file of a program that starts again at its beginning."""
COMPLETIONS = "/v1/chat/completions"


class Reported(NamedTuple):
    """What a program says of a load. `p50_ms`, `p99_ms`: of the time to first token.

    Both are None for whole bodies. GuideLLM decides by time which requests belong to its warm-up,
    so its `done` may differ from the calls of a load; the server's log says how many there were.
    """

    done: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


class Rival(NamedTuple):
    """A load generator.

    `package`: what pip installs, with the version that was measured. `more_calls`: the factor of
    the calls from which the processor time of a call is taken, so that a cheap call is not lost in
    the noise of the start. `chunks_only`: it cannot request whole bodies.
    """

    name: str
    package: str
    command: Callable[[str, int, Shape, Path], list[str]]
    environment: Callable[[Shape], Mapping[str, str]]
    reported: Callable[[Path, Shape], Reported]
    more_calls: int = 1
    chunks_only: bool = False


def write_prompts(folder: Path, shape: Shape) -> None:
    """Write the files that the commands name: prompts and a tokenizer of a few words.

    Some programs count tokens with a tokenizer, and would download one.
    """
    calls = shape.calls + shape.warm_up
    for name, key, entries in (("few.jsonl", "text", ENTRIES), ("prompts.jsonl", "prompt", calls)):
        (folder / name).write_text(f"{json.dumps({key: PROMPT})}\n" * entries)
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    words = ("[UNK]", "Topic", ":", "ocean", "tides", ".", "word")
    (tokenizer / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{
            "id": 0, "content": "[UNK]", "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }],
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {
            "type": "WordLevel", "unk_token": "[UNK]",
            "vocab": {word: number for number, word in enumerate(words)},
        },
    }))  # fmt: skip
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]",
        "model_max_length": 100_000,
    }))  # fmt: skip


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def aiperf_command(program: str, port: int, shape: Shape, folder: Path) -> list[str]:
    """Return the command of AIPerf: workers and record processors as it sets them itself."""
    return [
        program, "profile", "--model", "known", "--url", f"http://127.0.0.1:{port}",
        "--endpoint-type", "chat", *(["--streaming"] if shape.chunks else []),
        "--tokenizer", str(folder / "tokenizer"),
        "--input-file", str(folder / "few.jsonl"), "--custom-dataset-type", "single_turn",
        "--concurrency", str(shape.at_once), "--request-count", str(shape.calls),
        *(["--warmup-request-count", str(shape.warm_up)] if shape.warm_up else []),
        "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none",
        "--export-level", "summary", "--output-artifact-dir", str(folder / "aiperf"),
    ]  # fmt: skip


def aiperf_reported(folder: Path, _: Shape) -> Reported:
    """Read the JSON export of AIPerf."""
    found = json.loads((folder / "aiperf" / "profile_export_aiperf.json").read_text())
    first = found.get("time_to_first_token") or {}
    failed = (found.get("error_request_count") or {}).get("avg", 0)
    done = (found.get("request_count") or {}).get("avg", 0)
    return Reported(int(done), int(failed), _number(first.get("p50")), _number(first.get("p99")))


def guidellm_command(program: str, port: int, shape: Shape, folder: Path) -> list[str]:
    """Return the command of GuideLLM. Its environment sets how many processes it may start."""
    streaming = str(shape.chunks > 0).lower()
    profile: dict[str, Any] = {"kind": "concurrent", "streams": shape.at_once}
    if shape.warm_up:
        profile["warmup"] = {"mode": "requests", "value": shape.warm_up}
    return [
        program, "run",
        "--backend", f"kind=openai_http,target=http://127.0.0.1:{port},model=known,"
        f"stream={streaming}",
        "--profile", json.dumps(profile),
        "--constraint", f"kind=max_requests,count={shape.calls + shape.warm_up}",
        "--data", f"kind=json_file,path={folder / 'prompts.jsonl'}",
        "--tokenizer", f"kind=huggingface_auto,model={folder / 'tokenizer'}",
        "--metrics", "kind=generative,sample_size=20",
        "--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console",
    ]  # fmt: skip


def guidellm_reported(folder: Path, shape: Shape) -> Reported:
    """Read the JSON output of GuideLLM."""
    (benchmark,) = json.loads((folder / "guidellm.json").read_text())["benchmarks"]
    metrics = benchmark["metrics"]
    totals = metrics["request_totals"]
    shares = metrics["time_to_first_token_ms"]["successful"]["percentiles"]
    times = (shares["p50"], shares["p99"]) if shape.chunks else (None, None)
    return Reported(totals["successful"], totals["errored"] + totals["incomplete"], *times)


def locust_command(program: str, port: int, shape: Shape, folder: Path) -> list[str]:
    """Return the command of Locust: a process for each processor, all users at once."""
    users = str(shape.at_once)
    return [
        program, "-f", str(LOCUSTFILE), "--headless", "--only-summary",
        "-u", users, "-r", users, "--processes", "-1", "-H", f"http://127.0.0.1:{port}",
        "--csv", str(folder / "locust"),
    ]  # fmt: skip


def locust_environment(shape: Shape) -> dict[str, str]:
    """Return what `locustfile.py` reads: how often each user calls."""
    assert shape.calls % shape.at_once == 0, "each user makes the same number of calls"
    return {
        "CALLS": str(shape.calls // shape.at_once),
        "WARM_UP": str(-(-shape.warm_up // shape.at_once)),
        "STREAM": str(shape.chunks > 0).lower(), "PROMPT": PROMPT,
    }  # fmt: skip


def locust_reported(folder: Path, shape: Shape) -> Reported:
    """Read the statistics of Locust, which rounds times of 100 ms and more to two digits."""
    with (folder / "locust_stats.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["Name"] == "call")
    times = (float(row["50%"]), float(row["99%"])) if shape.chunks else (None, None)
    failed = int(row["Failure Count"])
    return Reported(int(row["Request Count"]) - failed, failed, *times)


def vllm_command(program: str, port: int, shape: Shape, folder: Path) -> list[str]:
    """Return the command of `vllm bench serve`, which is one process."""
    return [
        program, "bench", "serve", "--backend", "openai-chat",
        "--base-url", f"http://127.0.0.1:{port}", "--endpoint", COMPLETIONS,
        "--model", "known", "--tokenizer", str(folder / "tokenizer"),
        "--dataset-name", "custom", "--dataset-path", str(folder / "prompts.jsonl"),
        "--skip-chat-template", "--num-prompts", str(shape.calls),
        "--max-concurrency", str(shape.at_once), "--request-rate", "inf",
        "--num-warmups", str(shape.warm_up), "--disable-tqdm", "--metric-percentiles", "50,99",
        "--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json",
    ]  # fmt: skip


def vllm_reported(folder: Path, _: Shape) -> Reported:
    """Read the result file of `vllm bench serve`."""
    found = json.loads((folder / "vllm.json").read_text())
    return Reported(
        found["completed"], found.get("failed", 0), _number(found["p50_ttft_ms"]),
        _number(found["p99_ttft_ms"]),
    )  # fmt: skip


def _no_environment(_: Shape) -> dict[str, str]:
    return {}


def _offline(_: Shape) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


RIVALS = {
    rival.name: rival
    for rival in (
        Rival(
            "aiperf", "aiperf==0.13.0", aiperf_command, _no_environment,
            aiperf_reported,
        ),
        Rival(
            "guidellm", "guidellm==0.8.1", guidellm_command, _offline,
            guidellm_reported, more_calls=2,
        ),
        Rival(
            "locust", "locust==2.47.0", locust_command, locust_environment,
            locust_reported, more_calls=4,
        ),
        Rival(
            "vllm", "vllm[bench]==0.33.0", vllm_command, _offline, vllm_reported,
            more_calls=8, chunks_only=True,
        ),
    )
}  # fmt: skip
