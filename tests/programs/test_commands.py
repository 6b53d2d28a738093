"""Commands as workflows: a process whose requests go through the gateway to a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.cli.main import main
from harness.records.ids import ids_in
from harness.store.run_directory import read_records
from harness.telemetry.span import SpanLink
from harness.telemetry.spans import TraceMaker
from tests.programs.running import (
    EMBEDDED,
    ENDPOINT_KEY,
    FAILED,
    MODEL,
    VIRTUAL,
    Answer,
    Ran,
    Seen,
    completion,
    live,
    serving,
    streamed,
)

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

ASKING = """
    import json, os, sys, urllib.error, urllib.request

    def ask(path, body=None, **headers):
        request = urllib.request.Request(
            os.environ["OPENAI_BASE_URL"] + path,
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json",
             "authorization": "Bearer " + os.environ["OPENAI_API_KEY"], **headers},
        )
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def chat(text, **more):
        messages = [{"role": "user", "content": text}]
        return ask("/chat/completions", {"model": "mine", "messages": messages, **more})
"""
ONE = "print(chat(sys.argv[1]))"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", ENDPOINT_KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def scenario(folder: Path, program: str, endpoint: str, **sets: Any) -> list[str]:
    """Write a program and its scenario; return the arguments of a run."""
    (folder / "app.py").write_text(dedent(ASKING) + dedent(program))
    (folder / "s.toml").write_text(
        f'name = "mine"\n[endpoint]\n{endpoint}\n[workflow]\n'
        f'command = [{json.dumps(sys.executable)}, "app.py", "{{topic}}"]\ntopics = ["tides"]\n'
        "[sweep]\npermits = [4]\n[load]\nworkflows = 1\nwarmup_calls = 0\n"
    )
    given = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in sets.items()]
    settings = [part for one in given for part in ("--set", one)]
    return [
        "run", str(folder / "s.toml"), "--out", str(folder / "out"), "--quiet", "--yes",
        "--no-preflight", *settings,
    ]  # fmt: skip


def ran(folder: Path, program: str, endpoint: str, **sets: Any) -> Ran:
    status = main(scenario(folder, program, endpoint, **sets))
    return Ran(status, read_records(folder / "out"), folder / "out")


def output(ended: Ran) -> str:
    return (ended.out / "program-output.txt").read_text()


def always(answer: Answer) -> Any:
    return lambda seen, number: answer


def test_a_request_goes_to_the_endpoint_with_its_key_and_its_model(tmp_path: Path) -> None:
    with serving(always(completion("a good answer"))) as server:
        ended = ran(tmp_path, ONE, live(server))
    assert (ended.status, ended.errors) == (0, [None])
    assert ended.calls == [("chat", 1, "ok")]
    [seen] = server.seen
    assert seen.headers["authorization"] == f"Bearer {ENDPOINT_KEY}"
    assert seen.body["model"] == MODEL
    assert seen.body["messages"][0]["content"].endswith("tides")
    assert "a good answer" in output(ended)
    [workflow] = ended.records.workflows
    assert workflow.exit_code == 0
    assert workflow.stderr is None
    [attempt] = ended.records.attempts
    assert workflow.started < attempt.ready < attempt.done < workflow.done
    assert 0 < workflow.own_code < workflow.done - workflow.started


def test_the_program_gets_no_key_of_the_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_NAME", ENDPOINT_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", ENDPOINT_KEY)
    program = "print(json.dumps(dict(os.environ))); print(json.dumps(sys.stdin.read()))"
    with serving(always(completion())) as server:
        ended = ran(
            tmp_path, program, live(server),
            workflow__env__ANTHROPIC_BASE_URL="{gateway}/{topic}", workflow__env__MODE="{x}",
        )  # fmt: skip
    variables, given = map(json.loads, output(ended).splitlines())
    assert ENDPOINT_KEY not in variables.values()
    assert not {"OWN_KEY", "OTHER_NAME"} & variables.keys()
    assert variables["ANTHROPIC_BASE_URL"] == variables["OPENAI_BASE_URL"] + "/tides"
    assert variables["MODE"] == "{x}"
    assert variables["NO_PROXY"].endswith("127.0.0.1")
    assert given == ""


def test_while_a_stream_arrives_the_program_has_no_time_of_its_own(tmp_path: Path) -> None:
    with serving(always(streamed(*["word"] * 20_000))) as server:
        ended = ran(tmp_path, 'chat("x", stream=True)', live(server))
    [workflow], [attempt] = ended.records.workflows, ended.records.attempts
    assert attempt.first_answer is not None
    assert attempt.first_answer < attempt.done
    exchange = attempt.done - attempt.permit_granted
    assert 0 < workflow.own_code <= workflow.done - workflow.started - exchange


def test_a_header_names_the_phase_of_a_call(tmp_path: Path) -> None:
    program = """
        headers = {"x-harness-phase": "plan"}
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        print(ask("/chat/completions", body, **headers)[0])
        print(ask("/embeddings", {"input": "x"}, **headers)[0])
        print(*ask("/chat/completions", body, **{"x-harness-phase": " "}))
        print(chat("x")[0])
    """

    def answer(seen: Seen, number: int) -> Answer:
        return EMBEDDED if seen.path.endswith("/embeddings") else completion()

    with serving(answer) as server:
        ended = ran(tmp_path, program, live(server))
    assert ended.calls == [("chat", 1, "ok"), ("plan", 1, "ok"), ("plan", 2, "ok")]
    assert all("x-harness-phase" not in seen.headers for seen in server.seen)
    refused = output(ended).splitlines()[2]
    assert refused.startswith("400 ")
    assert "x-harness-phase: give a name" in refused


def test_the_policy_retries_and_the_program_sees_the_last_response(tmp_path: Path) -> None:
    def answer(seen: Seen, number: int) -> Answer:
        return completion() if number == 2 else FAILED

    with serving(answer) as server:
        ended = ran(tmp_path, f"{ONE}; {ONE}", live(server), sweep__retry=["openai-sdk"])
    assert ended.calls == [("chat", 1, "ok"), ("chat", 2, "server_error")]
    assert [one.outcome for one in ended.records.attempts][:2] == ["server_error", "ok"]
    good, bad = output(ended).splitlines()
    assert good.startswith("(200")
    assert bad == """(500, '{"error": {"message": "broken"}}')"""


def test_other_paths_pass_through_as_calls_of_their_kind(tmp_path: Path) -> None:
    def answer(seen: Seen, number: int) -> Answer:
        if seen.path.endswith("/embeddings"):
            return EMBEDDED
        return Answer(body=b'{"data": []}')

    program = """
        print(ask("/embeddings", {"model": "m", "input": "x"})[0])
        print(ask("/models?limit=2"))
        print(ask("/v1/messages", {"model": "m"}, **{"anthropic-version": "2023-06-01"})[1])
    """
    with serving(answer) as server:
        ended = ran(tmp_path, program, live(server))
    assert [(phase, outcome) for phase, _, outcome in ended.calls] == [
        ("embeddings", "ok"), ("messages", "ok"), ("models", "ok"),
    ]  # fmt: skip
    assert [seen.path for seen in server.seen] == [
        "/v1/embeddings", "/v1/models?limit=2", "/v1/v1/messages",
    ]  # fmt: skip
    assert server.seen[2].headers["anthropic-version"] == "2023-06-01"
    assert output(ended).splitlines()[1:] == ["""(200, '{"data": []}')""", '{"data": []}']


def test_a_span_of_the_program_is_linked_to_its_call(tmp_path: Path) -> None:
    program = f'chat("a", **{{}}); ask("/embeddings", {{"input": "x"}}, traceparent="{CONTEXT}")'
    with serving(lambda seen, number: completion() if number == 1 else EMBEDDED) as server:
        ended = ran(tmp_path, program, live(server))
    chat, embeddings = sorted(ended.records.calls, key=lambda call: call.phase)
    assert (chat.traceparent, embeddings.traceparent) == (None, CONTEXT)
    assert CONTEXT not in [seen.headers["traceparent"] for seen in server.seen]
    records, found = ended.records, ids_in(CONTEXT)
    assert found is not None
    [trace] = TraceMaker(records.run).traces(records.workflows, records.calls, records.attempts)
    assert [span.links for span in trace if span.name == "call"] == [(), (SpanLink(*found),)]


@pytest.mark.parametrize(
    ("program", "code", "error"),
    [
        ("sys.exit(3)", 3, "the command ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", -9, "the command was ended by SIGKILL"),
    ],
)
def test_a_command_that_fails_is_a_failed_workflow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, code: int, error: str
) -> None:
    secret = ENDPOINT_KEY
    program = f"""
        for number in range(50):
            print("line", number, file=sys.stderr)
        print("the key is {secret[:4]}" + "{secret[4:]}", file=sys.stderr, flush=True)
        {program}
    """
    with serving(always(completion())) as server:
        ended = ran(tmp_path, program, live(server))
    [workflow] = ended.records.workflows
    assert (ended.status, workflow.outcome) == (1, "failed")
    assert (workflow.exit_code, workflow.error) == (code, error)
    assert workflow.stderr is not None
    first, *_, last = workflow.stderr.splitlines()
    assert (first, last) == ("line 31", "the key is [redacted]")
    assert ENDPOINT_KEY not in output(ended)
    capsys.readouterr()
    assert main(["trace", str(ended.out), "--failed"]) == 0
    shown = capsys.readouterr().out
    assert f"Error: {error}" in shown
    assert "stderr: line 45" not in shown
    assert "stderr: line 46\n" in shown
    assert main(["report", str(ended.out)]) == 0
    answer = " ".join(capsys.readouterr().out.split())
    assert f"The most frequent failure: program, 1 workflow; {error}; harness trace" in answer


def test_a_command_that_cannot_be_started_is_a_failed_workflow(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        arguments = scenario(tmp_path, ONE, live(server), workflow__command=["./{topic}"])
        main(arguments)
    [workflow] = read_records(tmp_path / "out").workflows
    assert workflow.error == "the command cannot be started (No such file or directory)"
    assert workflow.exit_code is None


def test_a_deadline_ends_the_command_and_what_it_has_started(tmp_path: Path) -> None:
    program = """
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("child", "w") as file:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            print(child.pid, file=file)
        print("began", file=sys.stderr, flush=True)
        child.wait()
    """
    with serving(always(completion())) as server:
        ended = ran(tmp_path, program, live(server), timeouts__workflow="2s")
    [workflow] = ended.records.workflows
    assert workflow.error is not None
    assert workflow.error.startswith("workflow_timeout")
    assert (workflow.exit_code, workflow.stderr) == (None, "began")
    assert is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, also if nobody has noticed its end yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_command_without_a_call_ends_after_its_own_time(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        ended = ran(
            tmp_path, "import time; time.sleep(600)", live(server), workflow__own_time_limit="1s"
        )
    assert "workflow.own_time_limit" in ended.error


def test_the_budget_ends_the_run_and_its_commands(tmp_path: Path) -> None:
    with serving(always(completion())) as server:
        ended = ran(tmp_path, f"{ONE}; {ONE}; open('end', 'w')", live(server), budget__attempts=1)
    assert ended.status == 3
    assert len(server.seen) == 1
    assert not (tmp_path / "end").exists()


class Stalling:
    """A server that sends the head and the first text of a stream, and then what the test says.

    `left`: set when the client has closed its connection.
    """

    def __init__(self, end: bytes | None) -> None:
        self.count = 0
        self.left = threading.Event()
        self._end = end

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            self.count += 1
            first = streamed("a").body.partition(b"\n\n")[0] + b"\n\n"
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            chunk = b"%x\r\n%b\r\n" % (len(first), first)
            connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunk)
            if self._end is not None:
                connection.sendall(self._end)
                return
            while connection.recv(65536):
                pass
            self.left.set()


@contextmanager
def stalling(end: bytes | None = None) -> Iterator[tuple[Stalling, str]]:
    server = Stalling(end)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port = listener.getsockname()[1]
        yield (
            server,
            f'kind = "openai"\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "{MODEL}"\n'
            'api_key_env = "OWN_KEY"\nsettle = "0s"\n',
        )
        listener.shutdown(socket.SHUT_RDWR)


READING = """
    import http.client, urllib.parse
    url = urllib.parse.urlsplit(os.environ["OPENAI_BASE_URL"])
    connection = http.client.HTTPConnection(url.hostname, url.port)
    body = json.dumps({"model": "m", "stream": True, "messages": []})
    connection.request("POST", url.path + "/chat/completions", body)
    response = connection.getresponse()
    print(response.readline().decode()[:5])
"""


def test_a_stream_that_breaks_after_its_first_text_is_not_retried(tmp_path: Path) -> None:
    program = (
        READING
        + """
    try:
        response.read()
        print("whole")
    except http.client.IncompleteRead:
        print("incomplete")
    """
    )
    with stalling(end=b"") as (server, endpoint):
        ended = ran(tmp_path, program, endpoint, sweep__retry=["openai-sdk"])
    assert ended.calls == [("chat", 1, "connection_lost")]
    assert server.count == 1
    assert output(ended).split() == ["data:", "incomplete"]
    assert ended.errors == [None]


def test_a_stream_that_ends_without_its_last_event_ends_for_the_program_too(
    tmp_path: Path,
) -> None:
    with stalling(end=b"0\r\n\r\n") as (_, endpoint):
        ended = ran(tmp_path, READING + "\n    response.read(); print('whole')", endpoint)
    assert ended.calls == [("chat", 1, "missing_done")]
    assert output(ended).split() == ["data:", "whole"]


def test_a_program_that_leaves_a_stream_cancels_the_request_upstream(tmp_path: Path) -> None:
    with stalling() as (server, endpoint):
        ended = ran(tmp_path, READING + "\n    connection.close(); response.close()", endpoint)
        assert server.left.wait(20)
    assert ended.calls == [("chat", 1, "cancelled")]
    assert ended.errors == [None]


def test_a_server_that_stalls_obeys_the_deadline(tmp_path: Path) -> None:
    program = (
        READING
        + """
    try:
        response.read()
    except http.client.IncompleteRead:
        print("incomplete")
    """
    )
    with stalling() as (server, endpoint):
        ended = ran(tmp_path, program, endpoint, timeouts__idle="200ms")
        assert server.left.wait(20)
    assert ended.calls == [("chat", 1, "idle_timeout")]
    assert output(ended).split() == ["data:", "incomplete"]


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        ({"sweep__mode": ["async", "threads"]}, "sweep.mode[1] = 'threads'"),
        ({"sweep__mode": ["sync"]}, "sweep.mode[0] = 'sync'"),
        ({"endpoint__client": "wire"}, "endpoint.client = 'wire'"),
        ({"workflow__command": ["no-such-program"]}, "no program 'no-such-program' in PATH"),
        ({"workflow__command": ["./no/such"]}, "no program './no/such' below "),
        ({"workflow__folder": "nowhere"}, "no such folder"),
        ({"workflow__env__MY_API_KEY": "sk-123"}, "workflow.env.MY_API_KEY: may be a secret"),
        ({"workflow__env__a-b": "c"}, "is not the name of an environment variable"),
        ({"workflow__carry_reasoning": True}, "has no effect on a program"),
        ({"workflow__command": []}, "workflow.command"),
        (
            {"workflow__command": "sh 'my app' {topic}"},
            'there is no shell; write ["sh", "my app", "{topic}"]',
        ),
        ({"workflow__command": "echo 'a"}, """write ["echo", "'a"]"""),
    ],
)
def test_what_a_command_does_not_have_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sets: dict[str, Any], line: str
) -> None:
    with serving(always(completion())) as server:
        assert main(scenario(tmp_path, ONE, live(server), **sets)) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not server.seen


def test_virtual_time_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(scenario(tmp_path, ONE, VIRTUAL)) == 2
    error = capsys.readouterr().err
    assert "endpoint.time = 'virtual': has no workflow of the kind 'command'" in error
    assert error.count("\n") == 1


def test_a_simulated_endpoint_answers_a_command_over_http(tmp_path: Path) -> None:
    simulated = 'kind = "simulated"\nprofile = "plain-chat"\ntime_scale = 0.001\n'
    ended = ran(tmp_path, 'chat("a", stream=True); ' + ONE, simulated, load__workflows=2)
    assert (ended.status, ended.errors) == (0, [None, None])
    assert len(ended.calls) == 4
    assert ended.records.provider is not None
    assert len(ended.records.provider[1]) == 4


def test_the_plan_says_what_it_cannot_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(always(completion())) as server:
        arguments = [*scenario(tmp_path, ONE, live(server)), "--dry-run"]
        assert main([one for one in arguments if one != "--quiet"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "executes" in shown
    assert "app.py: sha256" in shown
    assert "calls not known, as the program decides; workflow.calls gives an estimate" in shown
    assert not server.seen


def test_the_variables_of_this_process_stay_as_they_are(tmp_path: Path) -> None:
    before = dict(os.environ)
    with serving(always(completion())) as server:
        ran(tmp_path, ONE, live(server))
    assert dict(os.environ) == before


def test_one_interrupt_ends_the_run_and_its_commands(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    program = """
        with open("begun", "w") as file:
            file.write(str(os.getpid()))
        import time
        time.sleep(600)
    """
    simulated = 'kind = "simulated"\nprofile = "plain-chat"\ntime_scale = 0.01\n'
    arguments = scenario(tmp_path, program, simulated)
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        pid = int(begun.read_text())  # waits until the command has opened it
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert is_gone(pid)
