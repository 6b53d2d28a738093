"""Makes the reference documents from the code: `python -m tests.docs.reference`.

`docs/scenario.md` has every key of a scenario, from its JSON Schema and the docstrings of the
sections. `docs/records.md` has every field of the records and of the summary,
`docs/endpoints.md` the anomalies, `docs/servers.md` how the answers of servers are read, and
`docs/production.md` the checks before production.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis import model
from harness.bench.scenario import Scenario
from harness.bench.scenario_schema import BY_NAME, KIND_TABLES, scenario_schema
from harness.config.attribute_docs import class_doc
from harness.config.budget import OwnPrice
from harness.config.faults import Burst, Fault, Outage
from harness.config.load import Arrivals
from harness.config.response_reading import ResponseLimits
from harness.doctor.registry import CHECKS
from harness.records import units
from harness.records.anomalies import ANOMALIES
from harness.records.clock import Anchor
from harness.records.provider_log import ProviderHead, Served
from harness.records.schema import (
    Attempt,
    Backoff,
    Branches,
    Call,
    CellInfo,
    Decision,
    LimitChange,
    Phase,
    PhaseInfo,
    PolicyCode,
    Run,
    Said,
    Session,
    Spent,
    Stop,
    Tokens,
    Transcript,
    Trial,
    Workflow,
)
from harness.records.server_sample import ServerSample
from harness.records.timer_lag import LateTimer
from harness.records.trial_worker import TrialWorker
from harness.records.tune_blocks import TuneBlock, TuneOutlook, TuneRuledOut
from harness.records.units import units_of
from harness.workflows.prompts import PromptTemplate
from harness.workflows.registry import WORKFLOWS
from tests.docs.servers import servers_page

DOCS = Path(__file__).parents[2] / "docs"

SCENARIO = """\
# Every key of a scenario

This page is made from the code: `python -m tests.docs.reference`. [scenarios.md](scenarios.md)
explains what the sections are for. `harness schema` prints the same as a JSON Schema: an editor
that reads schemas for TOML (Even Better TOML, Taplo) completes and checks a scenario whose first
line is
`#:schema ./scenario.schema.json`, next to that file: `harness schema > scenario.schema.json`.

A duration is a text such as `"500ms"`, `"30s"`, `"2m"` or `"1h"`, or a number of seconds. Durations
are scenario seconds: with a simulated endpoint, one lasts `endpoint.time_scale` real seconds. A
path is relative to the folder of the scenario, or to the current folder if it is given with
`--set`.

In `[prompts]`, `NAME = "..."` is the prompt itself, and `NAME_file = "..."` the path of a file that
contains it. The workflow kinds below say which names there are. A name in braces is a field;
`{{name}}` stands for the braces themselves.
"""

_NESTED: dict[str, tuple[tuple[str, type], ...]] = {
    "load": (("`load.arrivals`", Arrivals),),
    "endpoint": (
        ("`endpoint.limits`", ResponseLimits),
        ("`endpoint.price`", OwnPrice),
        ("`[[endpoint.faults]]`", Fault),
        ("`burst` of a fault", Burst),
        ("`outage` of a fault", Outage),
    ),
}
"""The tables within a section, with their titles."""


def scenario_page() -> str:
    """Return the text of docs/scenario.md."""
    schema = scenario_schema()
    parts = [SCENARIO, *_section("Top level", Scenario, _top_level(schema))]
    for key, field in Scenario.model_fields.items():
        if key in KIND_TABLES:
            title = f"[{key}.NAME]" if key in BY_NAME else f"[{key}]"
            for kind, section in KIND_TABLES[key].sections().items():
                table = schema["$defs"][section.__name__]
                parts += _section(f'`{title}` with `kind = "{kind}"`', section, table)
                if key == "workflow":
                    parts += ["", *_prompts(WORKFLOWS.get(kind).templates)]
        elif isinstance(plain := field.annotation, type) and plain.__name__ in schema["$defs"]:
            parts += _section(f"`[{key}]`", plain, schema["$defs"][plain.__name__])
        for title, nested in _NESTED.get(key, ()):
            parts += _section(title, nested, schema["$defs"][nested.__name__])
    return "\n".join(parts)


def _top_level(schema: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema["properties"].items() if "$ref" not in value}
    return {**schema, "properties": {k: v for k, v in plain.items() if k not in KIND_TABLES}}


def _section(title: str, section: type, table: dict[str, Any]) -> Iterator[str]:
    doc = class_doc(section)
    yield from ("", f"## {title}", "", doc.text, "", "```toml", doc.example, "```", "")
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for key, value in table["properties"].items():
        is_topic = key == "topics" and "default" not in value  # a file can stand for them
        is_required = key in table.get("required", ()) or is_topic
        default = "required" if is_required else _default(value)
        meaning = value["description"].replace("|", "\\|")
        yield f"| `{key}` | {_type(value)} | {default} | {meaning} |"


def _prompts(templates: Mapping[str, PromptTemplate]) -> Iterator[str]:
    yield from ("| key of `[prompts]` | required fields | optional fields |", "|---|---|---|")
    for name, template in templates.items():
        needed, optional = (
            ", ".join(f"`{{{field}}}`" for field in fields)
            for fields in (template.needed, template.optional)
        )
        yield f"| `{name}`, `{name}_file` | {needed} | {optional} |"


def _default(value: dict[str, Any]) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(value: dict[str, Any]) -> str:
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        many = len(value["enum"]) > 8
        return "text" if many else ", ".join(f"`{json.dumps(one)}`" for one in value["enum"])
    if "$ref" in value:
        return "table"
    if "anyOf" in value:
        return _alternatives(value["anyOf"])
    kind = {"string": "text", "boolean": "`true` or `false`", "object": "table"}.get(value["type"])
    if kind is not None:
        return kind
    if value["type"] == "array":
        return f"list of {_type(value['items'])}"
    name = "whole number" if value["type"] == "integer" else "number"
    low, high = value.get("minimum"), value.get("maximum")
    above = value.get("exclusiveMinimum")
    bounds = [
        f"at least {low:,g}" if low is not None else "",
        f"above {above:,g}" if above is not None else "",
        f"at most {_short(high)}" if high is not None else "",
    ]
    return ", ".join([name, *filter(None, bounds)])


def _short(number: float) -> str:
    return f"{number:,}" if number < 1e7 else f"{number:g}"


def _alternatives(options: list[dict[str, Any]]) -> str:
    if any("pattern" in option for option in options):
        return "duration" if "exclusiveMinimum" in options[0] else "duration, 0 too"
    if options[-1].get("items") == options[0]:
        return f"one or a list of: {_type(options[0])}"
    return " or ".join(map(_type, options))


RECORDS = """\
# Every field of the records and of the summary

This page is made from the code: `python -m tests.docs.reference`.
[run-directory.md](run-directory.md) explains the files. Records count repeats, workflows and
executions from 0; everything that people see counts them from 1, as does the key
`setting/repeat/workflow` of `harness trace RUN KEY`. A *cell* is what views call a setting.
Each number has its unit; `ns` is nanoseconds. A
`Figure`, a `Distribution` and a `Spread` have the unit of the field that contains them. Times of
records are integers: nanoseconds since the anchor of the run (`run.json`), `null` if the moment was
not reached. Durations of the summary are real seconds; divide them by `time_scale` to get scenario
seconds. Text in backquotes is a field.
"""

RECORD_FILES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "attempts.jsonl": (Attempt, Tokens, Decision),
    "calls.jsonl": (Call, Backoff),
    "workflows.jsonl": (Workflow, Phase, Branches),
    "trials.jsonl": (Trial, LateTimer, LimitChange),
    "transcripts.jsonl": (Transcript, Said),
    "spending.jsonl": (Spent,),
    "provider.jsonl": (ProviderHead, Served),
    "server_metrics.jsonl": (ServerSample,),
    "workers.jsonl": (TrialWorker,),
    "tune.jsonl": (TuneBlock, TuneOutlook, TuneRuledOut),
    "run.json": (Run, Anchor, CellInfo, PhaseInfo, PolicyCode, Stop, Session),
    "summary.json": tuple(
        kind
        for kind in vars(model).values()
        if isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and kind.__module__ == model.__name__
    ),
}


def records_page() -> str:
    """Return the text of docs/records.md."""
    parts = [RECORDS]
    for file, kinds in RECORD_FILES.items():
        parts += ["", f"## {file}"]
        for kind in kinds:
            parts += ["", f"### {kind.__name__}", "", class_doc(kind).text, ""]
            parts += ["| field | type | unit |", "|---|---|---|"]
            parts += [
                f"| `{name}` | {_type_text(kind, name)} | {unit} |"
                for name, unit in units_of(kind).items()
            ]
    return "\n".join([*parts, ""])


def _type_text(kind: type, name: str) -> str:
    annotations = (inspect.get_annotations(base) for base in kind.__mro__)
    written = next(found[name] for found in annotations if name in found)
    text = written if isinstance(written, str) else getattr(written, "__name__", str(written))
    within = re.fullmatch(r"(\w+)\[(.*)\]", text)
    if within and hasattr(units, within[1]):  # the unit has a column of its own
        text = within[2]
    return f"`{text}`".replace("|", "\\|")


def anomaly_table() -> str:
    """Return the table of the anomalies."""
    rows = [f"| `{name}` | {what} |" for name, what in ANOMALIES.items()]
    return "\n".join(["| anomaly | what it is |", "|---|---|", *rows])


def endpoints_page() -> str:
    """Return the text of docs/endpoints.md with its table of anomalies."""
    text = (DOCS / "endpoints.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- anomalies -->\n")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{begin}{anomaly_table()}\n{end}{after}"


PRODUCTION = """\
# Before production

[Made by `python -m tests.docs.reference` from `harness/doctor/registry.py`.]: #

```sh
harness doctor mine.toml                        # nothing is sent
harness doctor mine.toml --run RUN --probe      # with a run that measured it, and two small calls
```

`harness doctor` checks the following and says `ok`, `warning` or `FAILURE`, why, and what to do.
It exits with 1 if a check failed, so it can stand before a deployment; `--json` prints the
findings. The checks of times, lengths and 429s need a run of the scenario. The checks of the
server's answers send a request for its models and two calls of at most 256 tokens each; they need
`--probe`, or a yes to the question.
"""


def production_page() -> str:
    """docs/production.md: the checks of `harness doctor`, in words."""
    parts = [PRODUCTION]
    for topic, checks in CHECKS.items():
        parts.append(
            f"\n## {topic}\n\n| check | question | why | what to do |\n|---|---|---|---|\n"
        )
        parts += (
            f"| `{one.name}` | {one.question} | {one.why} | {one.remedy} |\n" for one in checks
        )
    return "".join(parts)


PAGES = {
    "scenario.md": scenario_page,
    "records.md": records_page,
    "endpoints.md": endpoints_page,
    "servers.md": servers_page,
    "production.md": production_page,
}


def main() -> None:
    """Write the documents."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
