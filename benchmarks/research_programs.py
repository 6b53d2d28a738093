"""The makespan of research as a program, in pairs with the built-in workflow. Simulated, over HTTP.

    python -m benchmarks.research_programs [--repeats 10] [--time-scale 0.06] [--only "in Node.js"]

Each repeat runs the built-in workflow, both programs of `benchmarks.programs.research`, and one in
Node.js through the gateway, in turning order, with the same seed. Prints for each program the ratio
of its makespan to that of the built-in workflow: the mean over the repeats with its 95 % interval,
and whether the calls are the same. A chunk has 40 tokens: the openai package takes about 0.1 ms for
each chunk that a program reads, which at this time scale would be much of the makespan. Each
workflow in Node.js starts a process, which takes 0.1 s of real time until its first request: it has
to be small beside the makespan, so it needs a machine that does nothing else. No call waits for a
permit: with fewer permits, which branch waits is decided by milliseconds, and changes makespans by
4 %. Exits with 1 if an interval is not within 0.97 to 1.03, and with 2 without Node.js.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.programs.research import BRANCHES, MODEL
from harness.analysis.statistics import over_repeats
from harness.records.clock import SECOND
from harness.store.run_directory import read_records
from harness.workflows.research.prompts import TEMPLATES

HERE = Path(__file__).parents[1]
KINDS = {
    "built-in": "",
    "with ask": 'program = "benchmarks.programs.research:with_ask"',
    "with openai": 'program = "benchmarks.programs.research:with_openai"',
    "in Node.js": """command = ["node", "{here}/benchmarks/programs/research.mjs", "{{topic}}"]
env = {{ BRANCHES = "{branches}", MODEL = "{model}", PROMPTS = "{prompts}" }}""",
}
LOWEST, HIGHEST = 0.97, 1.03
SCENARIO = """
name = "research-programs"
seed = {seed}
[workflow]
{program}
topics = ["ocean tides", "river deltas", "desert winds", "city trees"]
[endpoint]
time_scale = {time_scale}
override = {{ tokens_per_chunk = 40 }}
[load]
workflows = 8
in_flight = 4
[sweep]
permits = [16]
"""


def main() -> int:
    """Run the pairs and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--time-scale", type=float, default=0.06)
    parser.add_argument("--only", choices=list(KINDS)[1:])
    options = parser.parse_args()
    if shutil.which("node") is None:
        print("node is not installed: one program is written in Node.js", file=sys.stderr)
        return 2
    names = ["built-in", options.only] if options.only else list(KINDS)
    ratios: dict[str, list[float]] = {name: [] for name in names if name != "built-in"}
    same = dict.fromkeys(ratios, True)
    for repeat in range(options.repeats):
        turned = names[repeat % len(names) :] + names[: repeat % len(names)]
        found = {name: _measure(name, repeat, options.time_scale) for name in turned}
        makespan, calls = found["built-in"]
        for name, of_kind in ratios.items():
            of_kind.append(found[name][0] / makespan)
            same[name] = same[name] and found[name][1] == calls
        shown = ", ".join(f"{name} {of_kind[-1]:.3f}" for name, of_kind in ratios.items())
        print(f"repeat {repeat + 1}: built-in {makespan:.2f} s; ratios: {shown}", flush=True)
    holds = True
    for name, of_kind in ratios.items():
        mean = over_repeats(of_kind)
        assert mean is not None, "there are repeats"
        assert mean.low is not None, "there are several"
        assert mean.high is not None, "there are several"
        holds = holds and same[name] and mean.low >= LOWEST and mean.high <= HIGHEST
        print(
            f"{name}: {mean.value:.4f} times the makespan of the built-in workflow "
            f"({mean.low:.4f} to {mean.high:.4f}); calls {'the same' if same[name] else 'differ'}"
        )
    return 0 if holds else 1


def _prompts() -> dict[str, list[dict[str, str]]]:
    """Return the messages of the built-in prompts, with their fields."""
    return {
        name: [
            {"role": "system", "content": template.system},
            {"role": "user", "content": template.text},
        ]
        for name, template in TEMPLATES.items()
    }


def _measure(
    name: str, seed: int, time_scale: float
) -> tuple[float, Counter[tuple[int, str, str, int | None]]]:
    """Return the makespan in real seconds, and how often each call was made."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pair.toml"
        prompts = Path(folder) / "prompts.json"
        prompts.write_text(json.dumps(_prompts()))
        program = KINDS[name].format(here=HERE, branches=BRANCHES, model=MODEL, prompts=prompts)
        file.write_text(SCENARIO.format(seed=seed, program=program, time_scale=time_scale))
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "harness", "run", str(file), "--quiet", "--out", str(out)]
        subprocess.run(command, cwd=HERE, check=True)
        records = read_records(out)
    calls = Counter(
        (one.workflow, one.phase, one.outcome, one.tokens.input if one.tokens else None)
        for one in records.calls
    )
    trial = records.trials[0]
    return (trial.end - trial.start) / SECOND, calls


if __name__ == "__main__":
    sys.exit(main())
