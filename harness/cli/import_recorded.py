"""`harness import`: a scenario that replays recorded traffic."""

from __future__ import annotations

import argparse
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.bench.scenario import FEWEST_FOR_P95
from harness.config.tables import SettingError
from harness.imports.happens_before import InferredTrace, inferred
from harness.imports.recognition import recording_of
from harness.imports.recorded import Recording, UnreadableRecordError, without_impossible
from harness.imports.replay_files import replay_files, replay_scenario
from harness.records.errors import InputError, StorageError
from harness.report.console import Output, say
from harness.store.run_directory import replace_file
from harness.workflows.replay.data_file import ReplayData, encoded_data, read_data

_MOST_BYTES = 1024**3


def import_recorded(options: argparse.Namespace) -> int:
    """Write the scenario and its data file, and show what was found."""
    path, target = Path(options.file), Path(options.output)
    if target.suffix != ".toml":
        raise InputError(f"-o {options.output}: must end in .toml; give the path of a scenario")
    data = target.with_name(f"{target.stem}.replay.jsonl")
    if path.resolve() in (target.resolve(), data.resolve()):
        raise InputError(f"-o {options.output}: would replace {path} itself; give another path")
    recording = _read(path)
    found = inferred([*recording.traces, *recording.others])[: len(recording.traces)]
    files = replay_files(found)
    if not files.workflows:
        raise InputError(f"{path}: no call succeeded with an output; nothing can be replayed")
    _write(data, encoded_data(files.workflows))
    try:
        content = read_data(str(data))
    except SettingError as error:
        raise InputError(f"{data}: {error}") from None
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", target.stem).strip("-.") or "replay"
    text = replay_scenario(
        name[:64], data.name, content, recording.source, options.in_flight, FEWEST_FOR_P95
    )
    _write(target, text.encode())
    for line in _lines(recording, found, content, files.left_out):
        say(Output(), line)
    say(Output(), f"Written: {target} and {data}. Try: harness run {target}")
    return 0


def _read(path: Path) -> Recording:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is larger than 1 GiB; give a part of it")
        return without_impossible(recording_of(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a file with recorded calls") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file") from None
    except UnreadableRecordError as error:
        raise InputError(f"{path}: {error}") from None


def _write(path: Path, content: bytes) -> None:
    try:
        replace_file(path, [content])
    except StorageError as error:
        raise InputError(f"{error}; with -o FILE, give a file that can be written") from None


def _lines(
    recording: Recording, found: Sequence[InferredTrace], content: ReplayData, left: Counter[str]
) -> Iterator[str]:
    """Yield what was found, in a few lines."""
    calls = [call for one in content.workflows for call in one.calls]
    depths = [_depth(one.after) for one in found]
    yield (
        f"{recording.source}: {len(content.workflows)} workflows, {len(calls)} calls, "
        f"at most {max(depths)} one after another."
    )
    certain = [one for each in found for one in each.certain]
    if recording.has_times:
        yield (
            f"Dependencies: certain for {sum(certain) / len(certain):.0%} of the calls; the others "
            "are the likeliest that the times allow (docs/import.md)."
        )
        gaps = [call.gap for call in calls]
        yield f"Program time before a call: median {statistics.median(gaps):.3g} s, kept as it was."
    else:
        yield "The file has arrivals and lengths alone, so each workflow is one call."
    rate = content.per_second
    span = content.workflows[-1].at
    yield "Arrivals: " + (
        "all at once." if rate is None else f"{rate:.3g} a second for {span:.3g} s."
    )
    for reason, count in (recording.left_out + left).items():
        yield f"Left out: {count} {reason}."
    yield "The scenario and its data hold lengths and times; prompts, answers and names stay out."


def _depth(after: Sequence[Sequence[int]]) -> int:
    depths: list[int] = []
    for before in after:
        depths.append(1 + max((depths[one] for one in before), default=0))
    return max(depths, default=0)
