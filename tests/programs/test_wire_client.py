"""Programs with `endpoint.client = "wire"`: those that call ask have it, others are refused."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from harness.cli import execute
from harness.cli.main import main
from tests.programs.running import ENDPOINT_KEY, MODEL, Server, completion, live, run, serving

ASKS = """
    import harness

    @harness.workflow
    async def main(ask, topic):
        plan = await ask("plan", topic)
        parts = await harness.gather(ask("part", plan.text), ask("part", "more"))
        return " ".join(part.text for part in parts)
"""
OWN_CLIENT = """
    from openai import AsyncOpenAI

    client = AsyncOpenAI(max_retries=0)

    async def main(topic):
        return await client.chat.completions.create(model="m", messages=[])
"""
GIVEN_CLIENT = """
    async def main(client, topic):
        return await client.chat.completions.create(model="m", messages=[])
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", ENDPOINT_KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("mode", ["async", "serial"])
def test_a_function_with_the_decorator_asks_over_sockets_alone(tmp_path: Path, mode: str) -> None:
    with serving(lambda *_: completion("found")) as server:
        ran = run(
            tmp_path, ASKS, live(server, "stream = false"), "--no-preflight",
            endpoint__client="wire", sweep__mode=[mode], load__warmup_calls=0,
        )  # fmt: skip
    assert ran.status == 0
    assert ran.calls == [("part", 1, "ok"), ("part", 1, "ok"), ("plan", 1, "ok")]
    assert [attempt.outcome for attempt in ran.records.attempts] == ["ok"] * 3
    assert ran.errors == [None]
    asked = [body["messages"][-1]["content"].split()[-1] for body in server.bodies()]
    assert sorted(asked) == ["found", "more", "tides"]
    for seen in server.seen:
        assert (seen.path, seen.body["model"]) == ("/v1/chat/completions", MODEL)
        assert seen.headers["authorization"] == f"Bearer {ENDPOINT_KEY}"
        assert not [name for name in seen.headers if name.startswith(("x-stainless", "user-ag"))]


@pytest.mark.parametrize("instrument", ["true", "false"])
@pytest.mark.parametrize("program", [OWN_CLIENT, GIVEN_CLIENT], ids=["own", "given"])
@pytest.mark.parametrize("client", ['["wire"]', '["openai", "wire"]'], ids=["wire", "both"])
def test_a_program_that_uses_the_openai_package_is_refused_in_one_line_before_the_run(
    client: str, program: str, instrument: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda *_: completion()) as server:
        status = _refused(tmp_path, server, program, client, instrument)
        assert server.seen == []
    assert status == 2
    assert not (tmp_path / "out").exists()
    said = capfd.readouterr()
    place = f"'{tmp_path / 'mine.py'}:main'"
    assert (said.out, said.err.splitlines()) == (
        "",
        [
            f"harness: workflow.program = {place}: a function without the decorator "
            "harness.workflow sends its requests with the openai package; use endpoint.client = "
            "'openai', or make its calls with ask (docs/your-program.md)"
        ],
    )


def _refused(folder: Path, server: Server, program: str, client: str, instrument: str) -> int:
    (folder / "mine.py").write_text(dedent(program))
    (folder / "s.toml").write_text(
        f'name = "mine"\n[endpoint]\n{live(server)}\n[workflow]\nprogram = "mine.py:main"\n'
        f'topics = ["tides"]\ninstrument = {instrument}\n[sweep]\nmode = ["async"]\n'
        f'permits = [4]\n"endpoint.client" = {client}\n'
    )
    return main(["run", str(folder / "s.toml"), "--out", str(folder / "out"), "--quiet", "--yes"])


def test_code_that_no_check_has_seen_ends_the_run_at_its_first_request_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds of workflow of other packages can host code, too."""
    monkeypatch.setattr(execute, "check_code", lambda *_: None)
    with serving(lambda *_: completion()) as server:
        ran = run(
            tmp_path, OWN_CLIENT, live(server), "--no-preflight",
            endpoint__client="wire", load__warmup_calls=1,
        )  # fmt: skip
    assert ran.status == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("harness: endpoint.client = 'wire' does not send what a program sends")
    assert len(server.seen) == 1
    assert [attempt.phase for attempt in ran.records.attempts] == ["warm-up"]
