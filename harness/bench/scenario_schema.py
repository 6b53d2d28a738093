"""The JSON Schema of a scenario file, made from the classes of its sections."""

from __future__ import annotations

from typing import Any

from harness.bench.scenario import SWEPT_SECTIONS, Scenario, Sweep
from harness.bench.tune_section import Tune
from harness.config.kinds import KindTable
from harness.endpoints.registry import ENDPOINTS
from harness.limits.registry import LIMIT_KINDS
from harness.policies.registry import POLICIES
from harness.workflows.registry import WORKFLOWS

SCHEMA_FILE = "scenario.schema.json"
"""The name of the shipped schema, in the folder of the shipped scenarios."""

KIND_TABLES: dict[str, KindTable[Any]] = {
    "workflow": WORKFLOWS,
    "endpoint": ENDPOINTS,
    "retry": POLICIES,
    "permits": LIMIT_KINDS,
}
"""The sections of a scenario that have kinds."""

BY_NAME = ("retry", "permits")
"""Those of them that have tables of a kind by name."""

_NULL = {"type": "null"}
_AS_THEY_ARE = ("const", "default", "enum", "required")


def scenario_schema() -> dict[str, Any]:
    """Return the schema, with the kinds of installed packages."""
    whole = Scenario.model_json_schema()
    tables = whole.pop("$defs")
    for key, kinds in KIND_TABLES.items():
        references = []
        for section in kinds.sections().values():
            table = section.model_json_schema()
            tables |= table.pop("$defs", {})
            tables[section.__name__] = table
            references.append({"$ref": f"#/$defs/{section.__name__}"})
            if key in BY_NAME:  # in a file, `kind` has no default there
                table["required"] = list(dict.fromkeys(["kind", *table.get("required", ())]))
        one: dict[str, Any] = {"oneOf": references}
        described = whole["properties"][key]["description"]
        if key in BY_NAME:
            one = {"type": "object", "additionalProperties": one}
        whole["properties"][key] = {"description": described, **one}
    whole = _tidy(whole)
    tables = {name: _tidy(table) for name, table in sorted(tables.items())}
    for table in tables.values():
        if "topics_file" in table["properties"]:  # it can stand for the topics
            table["required"] = [key for key in table["required"] if key != "topics"]
    for section in (Sweep, Tune):
        swept = tables[section.__name__]
        swept["patternProperties"] = {rf"^({'|'.join(SWEPT_SECTIONS)})\.": {}}
        swept["additionalProperties"] = False
    used = _referred_to(whole, tables, {})  # not the base classes of the kinds
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **whole,
        "$defs": {name: table for name, table in tables.items() if name in used},
    }


def _tidy(schema: Any) -> Any:
    """Return a schema without titles, which repeat names, and without null, which TOML lacks."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema if one != _NULL]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: _tidy(one) for name, one in value.items()}
        elif key in _AS_THEY_ARE:
            if value is not None and not isinstance(value, dict):
                kept[key] = value
        elif key != "title":
            kept[key] = _tidy(value)
    options = kept.get("anyOf")
    if options is not None and len(options) == 1:
        del kept["anyOf"]
        kept = {**options[0], **kept}
    return kept


def _referred_to(schema: Any, tables: dict[str, Any], found: dict[str, None]) -> dict[str, None]:
    """Add the names of the tables that a schema refers to, directly or not, to `found`."""
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            _referred_to(value, tables, found)
        elif isinstance(value, str) and value.startswith("#/$defs/"):
            name = value.removeprefix("#/$defs/")
            if name not in found:
                found[name] = None
                _referred_to(tables[name], tables, found)
    return found
