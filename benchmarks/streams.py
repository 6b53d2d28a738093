"""How exactly streams are measured: 4, 64 and 512 at once, client against the provider's own log.

    python -m benchmarks.streams

Each stream has its first token after 200 ms and then 100 chunks 10 ms apart; that is the floor.
At 4 the verdict should be `none`; at 512 no two cores keep up, and the verdict should say who
did not. In between, either can be right: sending 64 requests at once takes a while. Ends with 1 if
a verdict is wrong. `benchmarks.verdict` checks verdicts against a known truth.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import msgspec

from harness.analysis.model import Summary
from harness.cli.main import main as harness


def measure(streams: int) -> Summary:
    """Run the `streaming` scenario with `streams` at once and return its summary."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"workflow.sub_questions={streams}", f"sweep.permits=[{streams}]"]
        command = ["run", "streaming", "--json", "--out", str(Path(folder) / "out")]
        for setting in settings:
            command += ["--set", setting]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            harness(command)
        return msgspec.json.decode(said.getvalue(), type=Summary)


def main() -> int:
    """Print both runs and return the exit code."""
    kept = True
    for streams in (4, 64, 512):
        summary = measure(streams)
        cell, oracle, verdict = summary.cells[0], summary.oracle, summary.verdict
        assert oracle is not None, "the provider is simulated"
        ttft, gap, late = cell.ttft_s.p50, cell.chunk_gap_s.p50, oracle.first_text_s
        between = oracle.inter_token_p50_s
        print(f"{streams} streams (simulated), medians in ms:")
        if ttft and gap and late and between is not None:
            print(
                f"  first token {ttft.value * 1e3:.1f} (floor 200), between {gap.value * 1e3:.2f}"
            )
            print(f"  after the provider's write: first token {late.p50 * 1e3:.2f}, "
                  f"between {between * 1e3:+.3f}")  # fmt: skip
        print(f"  verdict: {verdict.bottleneck}. {verdict.because[0] if verdict.because else ''}")
        kept &= streams == 64 or (verdict.bottleneck == "none") == (streams == 4)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
