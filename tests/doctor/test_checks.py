"""Each check of `harness doctor` fails on a mistake that people make, and passes without it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.bench import model_list, preflight
from harness.cli.main import main
from harness.config.prices import Price
from harness.config.request_settings import RequestSettings
from harness.config.shipped_scenarios import folder
from harness.config.toml_text import toml_document
from harness.doctor import machine
from harness.doctor.registry import CHECKS
from harness.policies.retry import Failure
from harness.records.errors import PreflightError
from harness.records.schema import Decision, retry_in
from tests.cli.answering import KEY
from tests.transports.bodies import chunk
from tests.wire.fault_server import END, Drip, FaultServer, Seen, Step, Write, framed, head
from tests.wire.quirks import body, respond, stream

URL = "http://127.0.0.1:9/v1"
SIMULATED: Mapping[str, Any] = {"kind": "simulated", "time": "virtual"}
Sections = Mapping[str, Any]


def live(**keys: Any) -> dict[str, Any]:
    return {
        "kind": "openai",
        "base_url": URL,
        "model": "m",
        "price": {"input": 1.0, "output": 2.0},
    } | keys


def write(folder: Path, endpoint: Sections, **sections: Any) -> Path:
    whole = {
        "name": "own",
        "workflow": {"topics": ["tides"], "sub_questions": 3},
        "endpoint": dict(endpoint),
        "load": {"workflows": 4, "in_flight": 4},
        "sweep": {"mode": ["async"], "permits": [4]},
    } | sections
    file = folder / "own.toml"
    file.write_text(toml_document(whole))
    return file


class Said(NamedTuple):
    level: str
    reason: str
    fix: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OWN_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "lateness", lambda streams: 0.001)
    return tmp_path


@pytest.fixture
def find(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(check: str, file: Path, *options: str) -> Said:
        capsys.readouterr()
        code = main(["doctor", str(file), "--json", *options])
        found = json.loads(capsys.readouterr().out)["checks"]
        assert code == any(one["level"] == "failure" for one in found)
        [said] = [one for one in found if one["check"] == check]
        assert bool(said["fix"]) == (said["level"] in ("warning", "failure"))
        return Said(said["level"], said["reason"], said["fix"])

    return run


def policy(**keys: Any) -> dict[str, Any]:
    return {
        "sweep": {"mode": ["async"], "permits": [8], "retry": ["mine"]},
        "retry": {"mine": keys},
        "load": {"workflows": 4, "in_flight": 4},
    }


FULL = {"kind": "exponential", "jitter": "full"}
CASES: list[tuple[str, str, str, Sections, Sections]] = [
    # check, level of the mistake, what is said, the mistake, and what is right
    ("base-url", "warning", "has no path",
     {"endpoint": live(base_url="http://127.0.0.1:9")}, {"endpoint": live()}),
    ("base-url", "failure", "one kind of request",
     {"endpoint": live(base_url=f"{URL}/chat/completions")},
     {"endpoint": live(base_url="https://api.deepseek.com", model="deepseek-flash")}),
    ("key-in-scenario", "failure", "line ",
     {"endpoint": live(), "description": "uses sk-abcdefghijklmnopqrstuv"}, {"endpoint": live()}),
    ("first-token", "warning", "limits the whole answer",
     {"endpoint": live(stream=False), "timeouts": {"first_token": "5s"}},
     {"endpoint": live(stream=False)}),
    ("first-token", "warning", "can keep a request waiting",
     {"endpoint": live(base_url="https://api.deepseek.com"), "timeouts": {"first_token": "20s"}},
     {"endpoint": live(base_url="https://api.deepseek.com")}),
    ("attempts", "warning", "up to 50 times",
     policy(**FULL, attempts=50, cap="1s"), policy(**FULL, attempts=5)),
    ("pauses", "failure", "may wait 120 s before a retry",
     policy(**FULL, attempts=9, base="2s", cap="2m") | {"timeouts": {"call": "1m"}},
     policy(**FULL, attempts=4, base="1s", cap="8s") | {"timeouts": {"call": "1m"}}),
    ("pauses", "warning", "after about 3 of 6 attempts",
     policy(kind="fixed", attempts=6, delay="25s") | {"timeouts": {"call": "1m"}},
     policy(kind="fixed", attempts=3, delay="25s") | {"timeouts": {"call": "1m"}}),
    ("jitter", "warning", "sent again together",
     policy(kind="fixed", attempts=3), policy(**FULL)),
    ("permits", "warning", "at most 12 calls are ready",
     {"sweep": {"permits": [64]}}, {"sweep": {"permits": [8]}}),
    ("budget", "failure", "nothing limits",
     {"endpoint": live(base_url="https://api.example.com/v1")},
     {"endpoint": live(base_url="https://api.example.com/v1"), "budget": {"attempts": 50}}),
    ("prices", "warning", "no price for m: api.example.com is of no provider",
     {"endpoint": {**live(base_url="https://api.example.com/v1"), "price": None}},
     {"endpoint": live(base_url="https://api.example.com/v1")}),
    ("key", "failure", "OWN_KEY: not set",
     {"endpoint": live(api_key_env="OWN_KEY")}, {"endpoint": live(api_key_env="SET_KEY")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "level", "says", "mistake", "right"), CASES, ids=[f"{c[0]}: {c[2]}" for c in CASES]
)
def test_a_mistake_in_the_scenario(
    here: Path, find: Any, monkeypatch: pytest.MonkeyPatch,
    check: str, level: str, says: str, mistake: Sections, right: Sections,
) -> None:  # fmt: skip
    monkeypatch.setenv("SET_KEY", KEY)
    wrong = find(check, write(here, **{"endpoint": SIMULATED, **_without_none(mistake)}))
    assert wrong.level == level, wrong
    assert says in wrong.reason
    good = find(check, write(here, **{"endpoint": SIMULATED, **_without_none(right)}))
    assert good.level in ("ok", "skipped"), good


def _without_none(sections: Sections) -> dict[str, Any]:
    endpoint = sections.get("endpoint")
    if endpoint is None:
        return dict(sections)
    return {**sections, "endpoint": {k: v for k, v in endpoint.items() if v is not None}}


def test_the_value_of_the_key_in_the_scenario(
    here: Path, find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_KEY", "unusual.key.value")
    file = write(here, live(api_key_env="OWN_KEY"), description="unusual.key.value")
    said = find("key-in-scenario", file)
    assert said.level == "failure"
    assert "unusual" not in said.reason + said.fix


def test_a_key_in_the_git_repository(here: Path, find: Any) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True)

    file = write(here, live())
    assert find("key-in-git", file).level == "skipped"
    (here / ".env").write_text(f"OWN_KEY={KEY}\n")
    assert find("key-in-git", file) == ("skipped", "this folder is in no git repository", "")
    git("init", "-q")
    assert find("key-in-git", file).level == "warning"
    git("add", ".env")
    assert find("key-in-git", file).level == "failure"
    git("rm", "-q", "--cached", ".env")
    (here / ".gitignore").write_text(".env\n")
    assert find("key-in-git", file).level == "ok"


def test_a_proxy_before_this_machine(
    here: Path, find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(here, live())
    assert find("proxy", file).level == "ok"
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "")
    said = find("proxy", file)
    assert (said.level, said.fix) == ("failure", "NO_PROXY=127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert find("proxy", file).level == "ok"
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy.example:1080")
    assert find("proxy", file).level == "failure"


def test_too_few_open_files(here: Path, find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(scenario: object) -> None:
        raise PreflightError("sweep.permits = 4: needs 132 open files, but only 100 are allowed")

    file = write(here, live())
    assert find("open-files", file).level == "ok"
    monkeypatch.setattr(preflight, "open_files", refuse)
    assert find("open-files", file).level == "failure"


def test_a_client_that_is_late(here: Path, find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(here, live())
    assert find("timers", file).level == "ok"
    monkeypatch.setattr(machine, "lateness", lambda streams: 0.2)
    said = find("timers", file)
    assert said.level == "warning"
    assert "200.0 ms with 4 streams" in said.reason


def test_the_lateness_of_this_machine_is_measured() -> None:
    assert machine.lateness(3, seconds=0.1) >= 0


def test_a_full_disk(here: Path, find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    file = write(here, live())
    assert find("disk", file).level == "ok"
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(1000))
    assert find("disk", file).level == "failure"


def test_a_collector_that_is_not_there(
    here: Path, find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(here, live())
    assert find("collector", file).level == "skipped"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        assert find("collector", file).level == "ok"
    assert find("collector", file).level == "warning"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense")
    assert find("collector", file).level == "failure"


def test_an_old_price(here: Path, find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def priced(days: int) -> None:
        date = datetime.now(UTC).date() - timedelta(days)
        price = Price(input=1, cached=1, output=2, source="list", date=date)
        monkeypatch.setattr("harness.endpoints.openai.price_of", lambda model, url, tier: price)

    endpoint = {"kind": "openai", "base_url": "https://api.example.com/v1", "model": "m"}
    file = write(here, endpoint)
    priced(91)
    assert find("prices", file).level == "warning"
    priced(90)
    assert find("prices", file).level == "ok"


# The checks that compare with a run.


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose answers need up to some 1,000 tokens, and where 4 permits meet 429."""
    folder = tmp_path_factory.mktemp("measured")
    sweep = {"mode": ["async"], "permits": [2, 4], "retry": ["openai-sdk"], "repeats": 2}
    endpoint = {**SIMULATED, "override": {"concurrency_cap": 3}}
    file = write(folder, endpoint, sweep=sweep, load={"workflows": 20, "in_flight": 2})
    assert main(["run", str(file), "--out", str(folder / "run"), "--quiet"]) in (0, 1)
    return folder / "run"


@pytest.mark.parametrize(
    ("check", "level", "says", "mistake", "right"),
    [
        ("call-timeout", "failure", "timeouts.call = 5 s", {"timeouts": {"call": "5s"}}, {}),
        ("first-token", "failure", "timeouts.first_token = 0.1 s",
         {"timeouts": {"first_token": "100ms"}}, {"timeouts": {"first_token": "5m"}}),
        ("max-tokens", "failure", "of the measured answers needed",
         {"workflow": {"topics": ["a"], "max_tokens": {"research": 100}}},
         {"workflow": {"topics": ["a"], "max_tokens": {"research": 20_000}}}),
        ("permits", "warning", "answered 429 with 4; 2 had none",
         {"sweep": {"permits": [4]}}, {"sweep": {"permits": [2]}}),
        ("permits", "failure", "Little's law",
         {"load": {"workflows": 9, "arrivals": {"per_second": 1.0}}, "sweep": {"permits": [2]},
          "objective": {"minimise": "workflow_p95"}},
         {"load": {"workflows": 9, "arrivals": {"per_second": 0.001}}, "sweep": {"permits": [2]},
          "objective": {"minimise": "workflow_p95"}}),
    ],
)  # fmt: skip
def test_a_mistake_that_a_run_shows(
    here: Path, find: Any, measured: Path,
    check: str, level: str, says: str, mistake: Sections, right: Sections,
) -> None:  # fmt: skip
    file = write(here, **{"endpoint": SIMULATED, **mistake})
    wrong = find(check, file, "--run", str(measured))
    assert wrong.level == level, wrong
    assert says in wrong.reason
    good = find(check, write(here, **{"endpoint": SIMULATED, **right}), "--run", str(measured))
    assert good.level == "ok", good


def test_a_run_of_another_scenario_is_named(
    here: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(here, SIMULATED)
    for name, says in (("own", ""), ("other", "a run of the scenario own, not of other; its")):
        capsys.readouterr()
        main(["doctor", str(file), "--run", str(measured), "--set", f"name={name}"])
        said = capsys.readouterr().err
        assert says in said
        assert bool(said) == bool(says)


# The checks that ask the server.

MODELS = json.dumps({"object": "list", "data": [{"id": "m"}, {"id": "m-large"}]}).encode()
TEXTS = [chunk(reasoning_content="Hm."), chunk(content="Blue"), chunk(content=".")]


class Server(NamedTuple):
    """How the server of a probe answers."""

    models: Sequence[Step] = ()
    text: Sequence[Step] = ()
    json: Sequence[Step] = ()
    with_v1: Sequence[Step] = ()
    ahead: float = 0.0

    def answer(self, seen: Seen) -> Sequence[Step]:
        path = seen.head.split()[1].decode()
        now = datetime.now(UTC) + timedelta(seconds=self.ahead)
        listed = self.models or respond(
            MODELS, content_type="application/json",
            headers=[("date", format_datetime(now, usegmt=True))],
        )  # fmt: skip
        if path.endswith("/v1/models") and self.with_v1:
            return self.with_v1
        if path.endswith("/models"):
            return listed
        asks_json = "response_format" in json.loads(seen.body)
        return (self.json if asks_json else self.text) or stream(*TEXTS)


NOTHING = [Write(head(404) + END)]
SERVERS: list[tuple[str, str, str, Server, Sections]] = [
    ("model", "failure", "does not list n", Server(), {"model": "n"}),
    ("model", "failure", "/v1/models is",
     Server(NOTHING, with_v1=respond(MODELS, content_type="application/json")),
     {"base_url": "http://127.0.0.1:PORT"}),
    ("stream", "failure", "404", Server(text=NOTHING), {}),
    ("stream", "failure", "unauthorized",
     Server(text=[Write(head(401) + framed(b'{"error": {"message": "no key"}}') + END)]), {}),
    ("stream", "warning", "wrong_form", Server(text=body({"content": "Blue."})), {}),
    ("stream", "warning", "in one piece", Server(text=stream(chunk(content="Blue."))), {}),
    ("usage", "warning", "no token counts", Server(text=stream(*TEXTS, usage=None)), {}),
    ("json-mode", "failure", "bad_request", Server(json=[Write(head(400) + END)]), {}),
    ("reasoning", "warning", "hides its reasoning",
     Server(text=stream(finish="length")), {}),
    ("clock", "warning", "s behind the server",
     Server(ahead=120), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "level", "says", "server", "keys"), SERVERS, ids=[f"{s[0]}: {s[2]}" for s in SERVERS]
)
def test_a_server_that_is_not_as_expected(
    here: Path, find: Any, check: str, level: str, says: str, server: Server, keys: Sections
) -> None:
    with FaultServer(server.answer) as wrong:
        own = {"base_url": wrong.base_url, **keys}
        own["base_url"] = own["base_url"].replace("PORT", str(wrong.port))
        said = find(check, write(here, live(**own)), "--probe")
    assert said.level == level, said
    assert says in said.reason


def test_a_server_that_is_as_expected(here: Path, find: Any) -> None:
    with FaultServer(Server().answer) as server:
        file = write(here, live(base_url=server.base_url))
        for check in ("connection", "model", "stream", "usage", "json-mode", "reasoning", "clock"):
            assert find(check, file, "--probe").level == "ok", check
        paths = [seen.head.split()[1] for seen in server.seen[:3]]
    assert paths == [b"/v1/models", b"/v1/chat/completions", b"/v1/chat/completions"]
    assert all(json.loads(seen.body)["max_tokens"] == 256 for seen in server.seen[1:3])


def test_a_server_that_is_not_there(here: Path, find: Any) -> None:
    with FaultServer(Server().answer) as server:
        url = server.base_url
    file = write(here, live(base_url=url))
    assert find("connection", file, "--probe").level == "failure"
    assert find("stream", file, "--probe").level == "skipped"


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nx: ", head(200) + framed(b"{")])
def test_a_list_of_models_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(model_list, "MOST_LIST_SECONDS", 0.2)
    more = framed(b" ") if b"chunked" in begun else b"a"
    with FaultServer(lambda seen: [Write(begun), Drip(more, 0.05)]) as server:
        found = model_list.list_models(server.base_url, RequestSettings(), "none")
    assert found.problem == "call_timeout (the list of models)"
    assert found.models is None


def test_a_list_of_models_that_is_too_long_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_list, "_MOST_LISTED", 10)
    with FaultServer(Server().answer) as server:
        assert model_list.list_models(server.base_url, RequestSettings(), "none").models is None


def test_nothing_is_sent_without_permission(here: Path, find: Any) -> None:
    with FaultServer(Server().answer) as server:
        assert find("stream", write(here, live(base_url=server.base_url))).level == "skipped"
    assert server.connections == 0


def test_nothing_is_sent_beyond_the_budget(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = {"decompose": 9, "research": 9, "synthesize": 9}
    with FaultServer(Server().answer) as server:
        file = write(
            here, live(base_url=server.base_url), budget={"tokens": 300},
            workflow={"topics": ["a"], "max_tokens": limits},
        )  # fmt: skip
        assert main(["doctor", str(file), "--probe"]) == 2
    assert server.connections == 0
    assert "budget.tokens" in capsys.readouterr().err


def test_a_policy_that_retries_what_no_retry_heals(
    here: Path, find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(here, SIMULATED, **policy(**FULL))
    assert find("permanent", file).level == "ok"

    def always(self: object, failure: Failure, random: object) -> Decision:
        return retry_in(1, "policy")

    monkeypatch.setattr("harness.policies.exponential.ExponentialRule.decide", always)
    said = find("permanent", file)
    assert said.level == "warning"
    assert "mine retries bad_request (400)" in said.reason


DELIBERATE = {
    ("azure", "prices"),  # the name of the deployment says nothing about the model
    ("rate-limited", "attempts"),  # a policy that never gives up, as an example
    ("rate-limited", "pauses"),
    ("retry-storm", "jitter"),  # a storm is what it shows
}


@pytest.mark.parametrize("name", [file.stem for file in sorted(folder().glob("*.toml"))])
def test_no_false_alarm_on_a_shipped_scenario(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("AZURE_OPENAI_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    assert main(["doctor", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    alarms = {(name, one["check"]) for one in found if one["level"] in ("warning", "failure")}
    assert alarms == {one for one in DELIBERATE if one[0] == name}


def test_the_findings_on_a_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here, live(api_key_env="OWN_KEY"))
    assert main(["doctor", str(file)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("own: 1 failure, 0 warnings, ")
    assert "\n  FAILURE  key             OWN_KEY: not set; put the API key into" in said
    assert "                           fix: write NAME=key into .env" in said
    assert said.endswith("More checks with --run RUN and --probe.\n")
    assert max(map(len, said.splitlines())) <= 80
    assert "model" not in said
    assert main(["doctor", str(file), "--verbose"]) == 1
    assert "  -        model           sends requests; allow them with" in capsys.readouterr().out


def test_every_check_has_a_case() -> None:
    tested = {case[0] for case in CASES} | {one[0] for one in SERVERS}
    tested |= {"key-in-git", "proxy", "open-files", "timers", "disk", "collector", "connection"}
    tested |= {"call-timeout", "max-tokens"}
    names = [check.name for checks in CHECKS.values() for check in checks]
    assert len(names) == len(set(names))
    assert tested == {*names} - {"permanent"}
