"""`harness reasoning`: shows the reasoning of a run, or how it differs between two sides."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.question_pairs import (
    QuestionDifference,
    Side,
    compare_questions,
    pair_questions,
    tokens_of_calls,
    transcripts_of,
)
from harness.analysis.reasoning import reasoning_by_phase
from harness.analysis.selection import Dataset
from harness.records.errors import InputError
from harness.records.keys import display_key
from harness.records.schema import Transcript
from harness.report.console import Output, printable, say
from harness.report.line_wrap import wrapped
from harness.report.reasoning_text import (
    parted_text,
    place_name,
    show_differences,
    show_phases,
    show_texts,
)
from harness.report.waterfall import find_workflow
from harness.report.wording import simulated_line
from harness.store.run_directory import require_run
from harness.store.trial_reader import TrialReader

DIFF = "diff"


def reasoning(options: argparse.Namespace) -> int:
    """Show the reasoning of a run, or compare it."""
    if options.run == DIFF:
        return _show_difference(options)
    if options.second or options.cells:
        raise InputError("--cells: only for harness reasoning diff RUN [RUN]")
    return _show_run(options)


def _show_run(options: argparse.Namespace) -> int:
    directory = require_run(options.run)
    stored = TrialReader(directory)
    if options.key is None:
        cells = list(Dataset.read(directory).cells.values())
        phases = reasoning_by_phase(cells)
        if options.json:
            _print_json({"run_id": stored.run.run_id, "phases": phases})
            return 0
        console = Output()
        _say_simulated(stored, console)
        show_phases(phases, console)
        for records in stored.workflows_by_trial():
            if records.workflows and _has_texts(stored):
                first = display_key(records.workflows[0])
                say(console, "", f"Next: harness reasoning {options.run} {first}")
                break
        return 0
    _require_texts(stored, options.run)
    found = find_workflow(stored.workflows_by_trial, stored.run.run_id, options.key)
    texts = transcripts_of(stored, found)
    if options.json:
        said = {"key": display_key(found), "topic": found.topic, "outcome": found.outcome}
        _print_json(said | {"calls": texts})
        return 0
    console = Output()
    say(console, *wrapped(f"Workflow {display_key(found)}: {found.outcome}"))
    say(console, *wrapped(f"Topic: {printable(found.topic)[:200]}"))
    _say_simulated(stored, console)
    show_texts(texts, tokens_of_calls(stored, found), console)
    return 0


def _show_difference(options: argparse.Namespace) -> int:
    if options.key is None:
        raise InputError("reasoning diff: no run; write harness reasoning diff RUN [RUN]")
    cells = options.cells or [None, None]
    paths = options.key, options.second or options.key
    if options.second is None and options.cells is None:
        raise InputError(
            "reasoning diff: one run; name a second one, or two settings of it with --cells"
        )
    readers = [TrialReader(require_run(path)) for path in paths]
    first, second = (_side(reader, name) for reader, name in zip(readers, cells, strict=True))
    for reader, path in zip(readers, paths, strict=True):
        _require_texts(reader, path)
    pairs = pair_questions(first, second)
    differences = compare_questions(first.reader, second.reader, pairs.both)
    found = sorted(differences, key=lambda one: one.rank)
    names = _names(paths, cells)
    if options.json:
        _print_json(
            {
                "sides": names,
                "only": [
                    [one.topic for one in side] for side in (pairs.only_first, pairs.only_second)
                ],
                "questions": list(map(_as_json, found)),
            }
        )
        return 0
    console = Output()
    _say_simulated(readers[0], console)
    show_differences(found, pairs, names, console)
    return 0


def _side(reader: TrialReader, name: str | None) -> Side:
    """Return a side by `cell` or `cell/repeat`, numbered from 1."""
    if name is None:
        return Side(reader)
    known = [cell.id for cell in reader.run.cells]
    cell, _, repeat = name.rpartition("/")
    if name in known:
        return Side(reader, name)
    if cell in known and repeat.isascii() and repeat.isdigit() and int(repeat):
        return Side(reader, cell, int(repeat) - 1)
    raise InputError(
        f"--cells {name}: no such setting of {reader.run.name}; write SETTING or SETTING/REPEAT, "
        f"with one of: {', '.join(known)}"
    )


def _names(paths: tuple[str, str], cells: list[str | None]) -> tuple[str, str]:
    """Return short names of both sides: of the runs where they differ, and of the cells."""
    runs = [Path(path).name if paths[0] != paths[1] else None for path in paths]
    if runs[0] == runs[1]:
        runs = [path if paths[0] != paths[1] else None for path in paths]
    first, second = (
        " ".join(part for part in (run, cell) if part) or str(number)
        for number, (run, cell) in enumerate(zip(runs, cells, strict=True), 1)
    )
    return first, second


def _has_texts(reader: TrialReader) -> bool:
    return bool(reader.run.scenario.get("transcripts"))


def _require_texts(reader: TrialReader, path: str) -> None:
    if not _has_texts(reader) and not reader.keys(Transcript):
        raise InputError(f"{path}: keeps no texts; run it with --set transcripts=true")


def _say_simulated(reader: TrialReader, console: Output) -> None:
    if reader.run.simulated:
        say(console, simulated_line(reader.run))


def _as_json(one: QuestionDifference) -> dict[str, Any]:
    said: dict[str, Any] = {
        "first": display_key(one.first),
        "second": display_key(one.second),
        "topic": one.first.topic,
        "equal": one.is_equal,
        "reasoning_similarity": one.reasoning,
        "answer_similarity": one.answer,
        "calls_only": one.only,
        "first_difference": None,
    }
    if one.parts_at is not None:
        part, text = parted_text(one)
        said["first_difference"] = {
            "call": place_name(one.parts_at.place),
            "same_prompt": one.parts_at.same_prompt,
            "text": part,
            "equal_sentences": text.equal,
            "first": text.first,
            "second": text.second,
            "similarity": text.similarity,
            "characters": text.lengths,
        }
    return said


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
