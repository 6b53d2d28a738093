"""The keys of `[workflow]` with `kind = "replay"`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from harness.config.config_base import Several, Text
from harness.config.tables import SettingError
from harness.workflows.replay.data_file import ReplayData, read_data
from harness.workflows.section import WorkflowSection


class ReplaySection(WorkflowSection):
    """Workflows as they were recorded. `harness import FILE -o mine.toml` writes the scenario and
    its data file.

    Example::

        [workflow]
        kind = "replay"
        data = "mine.replay.jsonl"
    """

    kind: Literal["replay"]
    """The kind of workflow."""
    data: Text
    """The data file, relative to the folder of the scenario; see docs/import.md."""
    digest: Text | None = None
    """The SHA-256 of the data file, by which a changed file is noticed; of the file if absent."""
    topics: Several[Text] = ()
    """The numbers of the workflows in the data file, from 1; all if absent."""

    @model_validator(mode="before")
    @classmethod
    def _is_read(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("data"), str):
            return values
        found = read_data(values["data"])
        given = values.get("digest")
        if given is not None and given != found.digest:
            raise SettingError(
                "the data file has changed since; remove the key, or restore the file",
                "digest",
                value=given,
            )
        topics = values.get("topics") or [str(at + 1) for at in range(len(found.workflows))]
        return {**values, "digest": found.digest, "topics": topics}

    @model_validator(mode="after")
    def _topics_are_workflows(self) -> ReplaySection:
        most = len(self.recorded.workflows)
        for number, topic in enumerate(self.topics):
            if not topic.isdecimal() or not 1 <= int(topic) <= most:
                problem = f"must be the number of a workflow in the data file, 1 to {most}"
                raise SettingError(problem, "topics", number, value=topic)
        for key in ("carry_reasoning", "carry_tokens", "max_tokens"):
            if value := getattr(self, key):
                if key == "max_tokens" and not any(value.values()):
                    continue
                problem = "has no effect on a replay, whose lengths are recorded; remove it"
                raise SettingError(problem, key, value=value)
        return self

    @property
    def recorded(self) -> ReplayData:
        """The content of the data file."""
        return read_data(self.data)

    @property
    def has_own_layouts(self) -> bool:
        """Whether workflows differ in their calls."""
        return True

    @property
    def recorded_arrivals(self) -> tuple[float, ...]:
        """Seconds from the first recorded arrival to that of each topic."""
        workflows = self.recorded.workflows
        times = sorted(workflows[int(topic) - 1].at for topic in self.topics)
        return tuple(at - times[0] for at in times)
