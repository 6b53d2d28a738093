"""The environment variables of programs."""

from __future__ import annotations

import os

import pytest

from harness.workflows.program.environment import PLACEHOLDER, prepared_environment

KEY = "OPENAI_API_KEY"


def test_a_placeholder_is_set_until_the_last_workflow_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    first, second = prepared_environment(), prepared_environment()
    first.__enter__()
    second.__enter__()
    assert os.environ[KEY] == PLACEHOLDER
    first.__exit__(None, None, None)
    assert os.environ[KEY] == PLACEHOLDER
    second.__exit__(None, None, None)
    assert KEY not in os.environ


def test_a_key_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-mine")
    with prepared_environment(), prepared_environment():
        assert os.environ[KEY] == "sk-mine"
    assert os.environ[KEY] == "sk-mine"


def test_a_key_that_a_program_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with prepared_environment():
        monkeypatch.setenv(KEY, "sk-mine")
    assert os.environ[KEY] == "sk-mine"
