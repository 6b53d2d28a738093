"""Reads the texts that a scenario keeps in separate files: topics and prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.workflows.prompts import PromptTemplate
from harness.workflows.registry import DEFAULT_KIND, WORKFLOWS

_TOPICS, _TOPICS_FILE = "workflow.topics", "workflow.topics_file"


class Trouble(NamedTuple):
    """What is wrong with a text: the key of the scenario that names it, and what in one line."""

    key: str
    what: str


def read_texts(values: dict[str, Any], folder: Path, typed: Collection[str]) -> Trouble | None:
    """Replace the names of files in `values` by the texts in these files.

    `values`: a scenario as TOML has it; `workflow.topics_file` becomes `workflow.topics`. Files are
    relative to `folder`; those whose keys were typed on the command line to the current folder.
    """
    workflow = values.get("workflow")
    if isinstance(workflow, dict):
        _prefer_typed(workflow, typed)
        if isinstance(workflow.get("topics_file"), str):
            trouble = _read_topics(workflow, _beside(_TOPICS_FILE, folder, typed))
            if trouble:
                return trouble
    named = values.get("prompts")
    for key, template in _templates(workflow).items():
        if isinstance(named, dict) and isinstance(named.get(key), str):
            folder_of = _beside(f"prompts.{key}", folder, typed)
            trouble = _read_prompt(key, template, named, values, folder_of)
            if trouble:
                return trouble
    return None


def _templates(workflow: object) -> Mapping[str, PromptTemplate]:
    """Return the prompts of the kind; none if there is no such kind, which is reported later."""
    kind = workflow.get("kind", DEFAULT_KIND) if isinstance(workflow, dict) else None
    try:
        return WORKFLOWS.get(kind).templates if isinstance(kind, str) else {}
    except Exception:  # whatever a module of another package does when imported
        return {}


def _prefer_typed(workflow: dict[str, Any], typed: Collection[str]) -> None:
    """Let topics that were typed on the command line replace the scenario's own."""
    if _TOPICS_FILE in typed and _TOPICS not in typed:
        workflow.pop("topics", None)
    if _TOPICS in typed and _TOPICS_FILE not in typed:
        workflow.pop("topics_file", None)


def _beside(key: str, folder: Path, typed: Collection[str]) -> Path:
    return Path() if key in typed else folder


def _read_topics(workflow: dict[str, Any], folder: Path) -> Trouble | None:
    key, name = _TOPICS_FILE, workflow["topics_file"]
    if "topics" in workflow:
        return Trouble(key, f"{key}: there is workflow.topics too; leave one of them out")
    text, problem = _read(folder / name)
    stripped = (line.strip() for line in text.splitlines())
    topics = [line for line in stripped if line and not line.startswith("#")]
    if not problem and not topics:
        problem = "holds no topic; write one a line"
    if problem:
        return Trouble(key, f"{key} = {name!r}: {problem}")
    workflow["topics"] = topics
    return None


def _read_prompt(
    key: str,
    template: PromptTemplate,
    named: dict[str, Any],
    values: Mapping[str, Any],
    folder: Path,
) -> Trouble | None:
    where, name = f"prompts.{key}", named[key]
    text, problem = _read(folder / name)
    problem = problem or template.objection(text, _is(values, "workflow", "carry_reasoning"))
    wants_json = template.json and _is(values, "endpoint", "json_mode", default=True)
    if not problem and wants_json and "json" not in text.casefold():
        # Providers answer 400 to a request for JSON whose prompt does not name it.
        problem = "does not say JSON, which endpoint.json_mode asks for; name it in the text"
    if problem:
        return Trouble(where, f"{where} = {name!r}: {problem}")
    named[key] = text.strip()
    return None


def _read(path: Path) -> tuple[str, str | None]:
    try:
        return path.read_text(encoding="utf-8-sig"), None
    except FileNotFoundError:
        return "", f"no such file; the path is relative to {_named(path.parent)}"
    except UnicodeDecodeError:
        return "", "is not UTF-8 text; save it as UTF-8"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return "", f"cannot be read ({reason}); name a text file"


def _named(folder: Path) -> str:
    return "the current folder" if folder == Path() else f"the scenario's folder, {folder}"


def _is(values: Mapping[str, Any], section: str, key: str, *, default: bool = False) -> bool:
    table = values.get(section, {})
    return isinstance(table, Mapping) and table.get(key, default) is True
