"""A server in a process of its own: started, ended, and never left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.endpoints import subprocess_server
from harness.endpoints.subprocess_server import Child
from harness.records.errors import HarnessError

SAYS = 'print(\'{"base_url": "http://127.0.0.1:1/v1"}\', flush=True)\n'
ENDS = "import sys\nsys.stdin.read()\nopen(sys.argv[1], 'w').write('ended')\n"
GOES_ON = "import signal\nwhile True: signal.pause()\n"


def make(folder: Path, text: str, *arguments: str) -> Child:
    (folder / "served.py").write_text(text)
    return Child("the server", "served", arguments, {"PYTHONPATH": str(folder)})


def test_it_says_where_it_serves_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    end = tmp_path / "end"
    server = make(tmp_path, SAYS + ENDS, str(end))
    assert server.start() == "http://127.0.0.1:1/v1"
    assert not end.exists()
    server.stop()
    assert end.read_text() == "ended"


def test_its_environment_is_ours_and_what_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_US", "http://ours")
    text = "import json, os\nprint(json.dumps({'base_url': os.environ['FROM_US']}), flush=True)\n"
    server = make(tmp_path, text)
    assert server.start() == "http://ours"
    server.stop()


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "print('hello')", "print('{}')"])
def test_one_that_does_not_start_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(HarnessError, match="the server did not start"):
        make(tmp_path, text).start()


def test_one_that_goes_on_after_its_input_has_closed_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess_server, "_STOP_SECONDS", 0.01)
    server = make(tmp_path, SAYS + GOES_ON)
    server.start()
    server.stop()  # a second one that waited for its end would never come back


def test_stopping_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    make(tmp_path, "").stop()
