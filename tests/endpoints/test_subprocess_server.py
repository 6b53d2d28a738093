"""A server in a process of its own: started, ended, and never left behind."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.endpoints import subprocess_server
from harness.endpoints.subprocess_server import serving
from harness.records.errors import HarnessError

SAYS = 'print(\'{"base_url": "http://127.0.0.1:1/v1"}\', flush=True)\n'
ENDS = "import sys\nsys.stdin.read()\nopen(sys.argv[1], 'w').write('ended')\n"
GOES_ON = "import signal\nwhile True: signal.pause()\n"


def running(folder: Path, text: str, *arguments: str) -> AbstractContextManager[str]:
    (folder / "served.py").write_text(text)
    return serving("the server", "served", arguments, {"PYTHONPATH": str(folder)})


def test_it_says_where_it_serves_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    end = tmp_path / "end"
    with running(tmp_path, SAYS + ENDS, str(end)) as base_url:
        assert base_url == "http://127.0.0.1:1/v1"
        assert not end.exists()
    assert end.read_text() == "ended"


def test_its_environment_is_ours_and_what_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_US", "http://ours")
    text = "import json, os\nprint(json.dumps({'base_url': os.environ['FROM_US']}), flush=True)\n"
    with running(tmp_path, text) as base_url:
        assert base_url == "http://ours"


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "print('hello')", "print('{}')"])
def test_one_that_does_not_start_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(HarnessError, match="the server did not start"):
        running(tmp_path, text).__enter__()


def test_one_that_goes_on_after_its_input_has_closed_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess_server, "_STOP_SECONDS", 0.01)
    with running(tmp_path, SAYS + GOES_ON):
        pass  # an end that waited for the server would never come
