"""Reads the texts that a scenario keeps in separate files, and checks its prompts.

A prompt is the text of `prompts.NAME`, or the file that `prompts.NAME_file` names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.config.tables import SettingError
from harness.workflows.program.loading import in_folder
from harness.workflows.prompts import PromptTemplate
from harness.workflows.registry import DEFAULT_KIND, WORKFLOWS

MOST_TEXT_BYTES = 4 * 1024**2
"""Maximum size of a file of topics or of a prompt."""

_PROGRAM = "workflow.program"
_FOLDER = "workflow.folder"
_DATA = "workflow.data"
_TOPICS, _TOPICS_FILE = "workflow.topics", "workflow.topics_file"


def read_texts(values: dict[str, Any], folder: Path, typed: Collection[str]) -> None:
    """Replace the names of files in `values` by the texts in these files.

    `values`: a scenario as TOML has it; `workflow.topics_file` becomes `workflow.topics`,
    `prompts.NAME_file` becomes `prompts.NAME`, and the files of `workflow.program` and
    `workflow.data` and the folder of a command get absolute paths. Files are relative to `folder`,
    those of keys in `typed` to the current folder: they were set on the command line. Raises
    SettingError.
    """
    workflow, prompts = values.get("workflow"), values.get("prompts")
    if not isinstance(workflow, dict):
        return
    if _TOPICS_FILE in typed and _TOPICS not in typed:
        workflow.pop("topics", None)
    if _TOPICS in typed and _TOPICS_FILE not in typed:
        workflow.pop("topics_file", None)
    name = workflow.get("topics_file")
    if isinstance(name, str):
        workflow["topics"] = _read_topics(name, _folder(_TOPICS_FILE, folder, typed), workflow)
    if isinstance(program := workflow.get("program"), str):
        workflow["program"] = in_folder(program, _folder(_PROGRAM, folder, typed))
    if "command" in workflow and isinstance(name := workflow.get("folder", "."), str):
        workflow["folder"] = str((_folder(_FOLDER, folder, typed) / name).absolute())
    if workflow.get("kind") == "replay" and isinstance(data := workflow.get("data"), str):
        workflow["data"] = str((_folder(_DATA, folder, typed) / data).absolute())
    sweep = values.get("sweep")
    if isinstance(sweep, dict) and isinstance(options := sweep.get(_PROGRAM), list):
        sweep[_PROGRAM] = [
            in_folder(one, folder) if isinstance(one, str) else one for one in options
        ]
    for key, template in _templates(workflow).items():
        if isinstance(prompts, dict):
            _read_prompt(prompts, key, template, values, folder, typed)


def _templates(workflow: Mapping[str, Any]) -> Mapping[str, PromptTemplate]:
    """Return the prompts of the kind; none if there is no such kind, which is reported later."""
    kind = workflow.get("kind", DEFAULT_KIND)
    try:
        return WORKFLOWS.get(kind).templates if isinstance(kind, str) else {}
    except Exception:  # any error in a module of another package
        return {}


def _folder(key: str, folder: Path, typed: Collection[str]) -> Path:
    return Path() if key in typed else folder


def _read_topics(name: str, folder: Path, workflow: Mapping[str, Any]) -> list[str]:
    path = ("workflow", "topics_file")
    if "topics" in workflow:
        raise SettingError("cannot be combined with workflow.topics; remove one of the two", *path)
    lines = map(str.strip, _read(name, folder, *path).splitlines())
    topics = [line for line in lines if line and not line.startswith("#")]
    if not topics:
        raise SettingError("contains no topic; write one in each line", *path, value=name)
    return topics


def _read_prompt(
    prompts: dict[str, Any],
    key: str,
    template: PromptTemplate,
    values: Mapping[str, Any],
    folder: Path,
    typed: Collection[str],
) -> None:
    """Put the text of the prompt `key` into `prompts`, and check it."""
    at = file_key = f"{key}_file"
    if f"prompts.{file_key}" in typed and f"prompts.{key}" not in typed:
        prompts.pop(key, None)
    if f"prompts.{key}" in typed and f"prompts.{file_key}" not in typed:
        prompts.pop(file_key, None)
    if file_key in prompts and key in prompts:
        other = f"cannot be combined with prompts.{key}; remove one of the two"
        raise SettingError(other, "prompts", file_key)
    name: Any = prompts.pop(file_key, None)
    if isinstance(name, str):
        text = _read(name, _folder(f"prompts.{file_key}", folder, typed), "prompts", file_key)
    elif name is not None:
        raise SettingError("must be text in quotes", "prompts", file_key, value=name)
    elif isinstance(prompts.get(key), str):
        at, name, text = key, prompts[key], prompts[key]
    else:
        return
    problem = template.objection(text, _is(values, "workflow", "carry_reasoning"))
    wants_json = template.json and _is(values, "endpoint", "json_mode", default=True)
    if not problem and wants_json and "json" not in text.casefold():
        # Providers answer 400 to a request for JSON whose prompt does not contain that word.
        problem = "does not contain the word JSON, which endpoint.json_mode requires; add it"
    if problem:
        if at == key and len(text.split()) == 1:
            problem += f"; if it is a file, write {file_key} = {name!r}"
        raise SettingError(problem, "prompts", at, value=name)
    prompts[key] = text.strip()


def _read(name: str, folder: Path, *path: str) -> str:
    try:
        with (folder / name).open("rb") as file:
            data = file.read(MOST_TEXT_BYTES + 1)
        if len(data) <= MOST_TEXT_BYTES:
            return data.decode("utf-8-sig")
        problem = f"is larger than {MOST_TEXT_BYTES // 1024**2} MiB; name a smaller file"
    except FileNotFoundError:
        place = "the current folder" if folder == Path() else f"the scenario's folder, {folder}"
        problem = f"no such file; the path is relative to {place}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text; save it as UTF-8"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problem = f"cannot be read ({reason}); name a text file"
    raise SettingError(problem, *path, value=name)


def _is(values: Mapping[str, Any], section: str, key: str, *, default: bool = False) -> bool:
    table = values.get(section, {})
    return isinstance(table, Mapping) and table.get(key, default) is True
