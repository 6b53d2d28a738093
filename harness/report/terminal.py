"""All results on the terminal, readable without bold and red (NO_COLOR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.analysis.model import Cell, Summary
from harness.report.advisories import warnings_of
from harness.report.arrivals_text import ARRIVALS_KEY
from harness.report.columns import (
    PART_HEADS,
    fitting_settings,
    policy_columns,
    terminal_table,
)
from harness.report.console import say, table_blocks
from harness.report.failures import failure_lines
from harness.report.first_screen import screen_width
from harness.report.line_wrap import legend
from harness.report.line_wrap import wrapped as wrap_paragraph
from harness.report.paired_columns import BLOCKS_DIFFER, paired_columns, paired_key
from harness.report.tables import Column
from harness.report.tune_proof import proven_text
from harness.report.tune_text import tune_lines, tuned_labels
from harness.report.wording import (
    NONE,
    bottleneck_text,
    cell_labels,
    code_heading,
    could_be_chosen,
    counted,
    in_reading_order,
    is_equal_work,
    number,
    recommendation_heading,
    repeats_of,
    side_by_side,
    simulated_line,
    spoken,
    tried_settings,
    warm_up_note,
    whole_number,
    whole_percent,
    with_labels,
)
from harness.store.run_directory import TRIALS_FOLDER

_FILES = ("summary.json", "report.html", "plots", "traces")


def render_summary(summary: Summary, directory: Path, console: Console) -> None:
    """Write the title, the table of cells, where the time went, and the conclusions."""
    write, width = partial(say, console), screen_width(console.width)
    wrapped = partial(wrap_paragraph, width=width)
    cells = in_reading_order(summary.cells)
    write(_title(summary, width), "")
    ended = [f"{cell.workflows.ok}/{cell.workflows.started}" for cell in cells]
    speed = [
        Column("ok of\nrun", "", ended),
        *paired_columns(summary, cells),
        *terminal_table("speed", cells, summary),
    ]
    write(*_table([speed, _trouble(cells, summary)], cells, summary, width, between=True))
    write(*wrapped(_key(summary)), *legend(cells, width), *wrapped(_warm_up(cells)))
    write(*wrapped(warm_up_note(summary)))
    if paired_columns(summary, cells):
        write(*wrapped(BLOCKS_DIFFER))
    if any(cell.offered_workflows_per_s for cell in cells):
        write("", Text("Arrivals of the open loop", style="bold"))
        arrivals = terminal_table("arrivals", cells, summary)
        write(*_table([arrivals], cells, summary, width))
        write(*wrapped(ARRIVALS_KEY))
    if any(cell.time_spent for cell in cells):
        write("", Text("Where the calls' time went, in %", style="bold"))
        parts = [
            Column(head, "", [getattr(c.time_spent, part, None) for c in cells], whole_percent)
            for part, head in PART_HEADS.items()
            if part != "client_wait"  # part of `other` here
        ]
        write(*_table([parts], cells, summary, width))
    if any(cell.cost_usd is not None for cell in cells):
        paid = "Cost, SIMULATED: nobody pays it" if summary.has_simulator else "Cost"
        write("", Text(paid, style="bold"))
        write(*_table([terminal_table("cost", cells, summary)], cells, summary, width))
    if len({cell.retry for cell in cells}) > 1:
        beside = side_by_side(cells)
        write("", Text("Cost of each retry policy", style="bold"))
        write(*_table([policy_columns(beside, summary)], beside, summary, width))
    if summary.tune is not None:
        write("", Text("How the setting was found", style="bold"))
        for line in tune_lines(summary.tune):
            write(*wrapped(line))
    write(*failure_lines(summary, width), "")
    limited = bottleneck_text(summary)
    said = [] if summary.virtual else [limited[0].lower() + limited[1:]]
    measurement = " ".join(["Measurement:", *said, *summary.verdict.because])
    write(*wrapped(_oracle(summary)), *wrapped(measurement), *_recommendation(summary, width))
    for warning in warnings_of(summary):
        first, *rest = wrapped(f"Warning: {warning}")
        write(Text.assemble(("Warning:", "bold red"), first.removeprefix("Warning:")), *rest)
    advice = summary.recommendation
    if advice.code:
        write("", Text(code_heading(summary), style="bold"))
        write(*(f"    {line}".rstrip() for line in advice.code))
    write("", f"Files: {directory}")
    files = [name for name in _FILES if (directory / name).exists()]
    if files:
        write(f"       {', '.join(files)}")
    if (directory / TRIALS_FOLDER).exists():
        write(
            *wrapped(
                "Records: only what the statistics need, in trials. The same scenario with "
                "`--set records=full` makes the same run with all records."
            )
        )


def _table(
    groups: Sequence[Sequence[Column]],
    cells: Sequence[Cell],
    summary: Summary,
    width: int,
    between: bool = False,
) -> Iterator[Text]:
    """Yield the lines of a table of cells. `between`: with an empty line between its blocks."""
    best = summary.recommendation.candidate
    dropped = {cell.id for cell in cells if cell.dropped_after is not None}
    marks = Column(
        "",
        "",
        ["*" if cell.id == best else "-" if cell.id in dropped else " " for cell in cells],
    )
    styles = ["bold", "bold", *("bold" if cell.id == best else "" for cell in cells)]
    names = fitting_settings(cells, groups, width, [marks])
    for at, block in enumerate(table_blocks(names, groups, width)):
        if at and between:
            yield Text()
        yield from map(Text, block, styles)


def _title(summary: Summary, width: int) -> Text:
    workflows = sum(cell.workflows.started for cell in summary.cells)
    attempts = sum(cell.attempts.total for cell in summary.cells)
    said = (
        f": {tried_settings(summary)}, {repeats_of(summary.cells)}, "
        f"{counted(workflows, 'workflow')}, {counted(attempts, 'attempt')}"
    )
    title = Text("\n".join(wrap_paragraph(summary.scenario + said, width=width)))
    title.stylize("bold", 0, len(summary.scenario))
    if summary.simulated:
        simulated, rest = simulated_line(summary).split(" ", 1)
        title.append(f"\n{simulated}", style="bold").append(f" {rest}")
    return title


def _loses(summary: Summary) -> bool:
    return any(cell.workflows.degraded or cell.workflows.failed for cell in summary.cells)


def _trouble(cells: Sequence[Cell], summary: Summary) -> list[Column]:
    lost = [f"{cell.workflows.degraded}+{cell.workflows.failed}" for cell in cells]
    limited = [cell.attempts.by_outcome.get("rate_limited", 0) for cell in cells]
    return [
        *([Column("deg.+\nfailed", "", lost)] if _loses(summary) else []),
        *terminal_table("trouble", cells, summary),
        Column("429s", "", limited, whole_number),
    ]


def _key(summary: Summary) -> str:
    said = ["median, p95: workflow latency from ready to done", "att. = attempts"]
    if summary.recommendation.candidate:
        said.insert(0, "* recommended" if summary.recommendation.cell else "* leading candidate")
    if any(cell.dropped_after is not None for cell in summary.cells):
        said.insert(1, "- dropped before the end")
    if paired_columns(summary, summary.cells):
        said.append(paired_key(summary))
    if any(cell.client_cpu_per_attempt_s for cell in summary.cells):
        said.append("client CPU: processor time an attempt")
    if _loses(summary):
        said.append("deg. = degraded")
    if not any(cell.workflow_latency_s.p95 for cell in summary.cells):
        said.append("no p95: too few workflows a setting")
    cells = summary.cells
    if any(cell.speedup_over_sync and not is_equal_work(cell, cells) for cell in cells):
        said.append(f"{NONE} speed-up: too much work was lost")
    return "; ".join(part.replace(" ", "\u00a0") for part in said)


def _warm_up(cells: Sequence[Cell]) -> str:
    labels = cell_labels(cells)
    cut = ", ".join(
        f"{labels[cell.id]} {cell.warm_up} of {cell.workflows.started}"
        for cell in cells
        if cell.warm_up
    )
    return f"Warm-up excluded from latencies and shares (MSER-5): {cut} workflows." if cut else ""


def _oracle(summary: Summary) -> str:
    oracle = summary.oracle
    if oracle is None:
        return ""
    seen = ""
    if lag := oracle.first_text_s:
        p50, p99 = number(lag.p50 * 1000), number(lag.p99 * 1000)
        seen = (
            f"; first text seen {p50} ms (p50), {p99} ms (p99) after it was written, in real time"
        )
    wrong = [
        f"{count} {what}"
        for count, what in (
            (oracle.unmatched, "unmatched"),
            (oracle.outcome_mismatches, "with another outcome"),
            (oracle.token_mismatches, "with other token counts"),
        )
        if count
    ]
    return (
        f"Client and provider: {counted(oracle.attempts, 'attempt')} matched{seen}; "
        f"{', '.join(wrong) or 'no mismatch'}."
    )


def _recommendation(summary: Summary, width: int) -> Iterator[str]:
    wrapped = partial(wrap_paragraph, width=width)
    advice = summary.recommendation
    untried = {} if summary.tune is None else tuned_labels(summary.tune)
    known = {**untried, **cell_labels(summary.cells)}
    labels = {name: label.replace(" ", "\u00a0") for name, label in known.items()}
    cell = next((cell for cell in summary.cells if cell.id == advice.candidate), None)
    heading = recommendation_heading(summary)
    said = heading
    if cell is not None:
        said += f": {spoken(cell, could_be_chosen(summary))}. {proven_text(summary)}"
    yield from wrapped(said)
    for because in advice.because:
        yield from wrapped(with_labels(because, labels), "  - ")
