"""The Containerfile, what is sent to its builder, and its health check. No engine is needed."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.endpoints.simulated import start_simulator

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text()
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if line
]
HEALTH: dict[str, Any] = runpy.run_path(str(ROOT / "container" / "healthcheck.py"))
is_healthy: Callable[[list[str]], bool] = HEALTH["is_healthy"]
health_url: Callable[[list[str]], str | None] = HEALTH["health_url"]
COMMAND = ["/opt/harness/bin/python", "/opt/harness/bin/harness"]


def rest(name: str) -> list[str]:
    """Return what follows each instruction of a kind."""
    return [text for kind, text in STEPS if kind == name]


def copied() -> list[tuple[list[str], str]]:
    """Return the sources of each COPY from the checkout, and its destination."""
    words = [text.split() for text in rest("COPY") if not text.startswith("--from")]
    return [(sources, to) for *sources, to in words]


def test_the_base_is_pinned_and_both_stages_use_it() -> None:
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}",
                        rest("ARG")[0])  # fmt: skip
    assert rest("FROM") == ["${BASE} AS build", "${BASE}"]


def test_it_runs_as_a_user_with_a_number_and_installs_only_what_is_pinned_with_a_hash() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", rest("USER")[0])
    installed = re.findall(r"pip install(.*?)(?:&&|$)", " ".join(rest("RUN")))
    assert len(installed) == 3
    for options in installed:
        assert "--require-hashes" in options or "--no-deps dist/*.whl" in options


def test_the_builder_gets_what_the_steps_copy_and_no_more(tmp_path: Path) -> None:
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()
    lines = (ROOT / ".containerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    taken = {source for sources, _ in copied() for source in sources}
    for source in taken:
        assert (ROOT / source).exists()
        assert any(Path(source).match(one) or Path(source).is_relative_to(one) for one in sent)
    for one in sent:
        assert any(Path(source).match(one) or Path(source).is_relative_to(one) for source in taken)


def test_the_copied_files_suffice_for_the_wheel(tmp_path: Path) -> None:
    for sources, to in copied():
        if to.startswith("/"):
            continue  # into the image itself
        for source in sources:
            target = tmp_path / to / (source if (ROOT / source).is_file() else "")
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / to, dirs_exist_ok=True)
            else:
                shutil.copyfile(ROOT / source, tmp_path / to / Path(source).name)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"harness/cli/main.py", "harness/scenarios/quickstart.toml"} <= set(
            archive.namelist()
        )


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ([*COMMAND, "serve", "plain-chat", "--host", "0.0.0.0"], "127.0.0.1:8000"),
        ([*COMMAND, "serve", "--host", "simulator", "--port", "81"], "simulator:81"),
        (["/sbin/docker-init", "--", "harness", "serve", "--port=82"], "127.0.0.1:82"),
        ([*COMMAND, "serve", "--host=::"], "127.0.0.1:8000"),
        ([*COMMAND, "serve", "--host=fd00::2"], "[fd00::2]:8000"),
        ([*COMMAND, "run", "serve"], None),
        ([*COMMAND, "--help"], None),
    ],
)
def test_the_address_to_check_is_that_of_the_command(words: list[str], address: str | None) -> None:
    assert health_url(words) == (address and f"http://{address}/health")


def test_a_server_is_healthy_while_it_answers_and_another_command_always(tmp_path: Path) -> None:
    with start_simulator("plain-chat", {}, 0, 0.001, tmp_path / "log.jsonl") as provider:
        port = provider.base_url.rpartition(":")[2].removesuffix("/v1")
        words = [*COMMAND, "serve", "--port", port]
        assert is_healthy(words)
    assert not is_healthy(words)
    assert is_healthy([*COMMAND, "run", "quickstart"])
