"""Checks of the API key and of the address of the endpoint. Nothing is sent."""

from __future__ import annotations

import re
import shutil
import subprocess
from urllib.parse import urlsplit

from harness.bench import preflight
from harness.config.network import environment_proxy
from harness.doctor.findings import IS_SIMULATED, Examined, Found, ok, skipped
from harness.records.errors import PreflightError

_ENV_FILE = ".env"
_SECRET = re.compile(r"(?<![A-Za-z0-9])(?:sk|gsk|pk|xai|hf|key)[-_][A-Za-z0-9_-]{20,}")
"""What the API keys of known providers look like."""
_SHORTEST_KEY = 8
_WITHOUT_VERSION = ("api.deepseek.com",)
"""Hosts whose base URL needs no path."""


def check_key_present(examined: Examined) -> Found:
    """Find variables without a value."""
    names = dict.fromkeys(
        name for mine in examined.own.values() for name in mine.endpoint.facts.secret_variables
    )
    if not names:
        return skipped("the endpoint needs no key")
    try:
        for mine in examined.own.values():
            preflight.secrets(mine, examined.environment)
    except PreflightError as error:
        return Found("failure", str(error), "write NAME=key into .env, or export NAME=key")
    return ok(f"{', '.join(names)} set")


def check_key_in_git(examined: Examined) -> Found:
    """Find a file `.env` that git tracks, or would add."""
    if not (examined.folder / _ENV_FILE).exists():
        return skipped("no file .env in this folder")
    if _git(examined, "rev-parse", "--is-inside-work-tree") != 0:
        return skipped("this folder is in no git repository")
    if _git(examined, "ls-files", "--error-unmatch", _ENV_FILE) == 0:
        return Found(
            "failure",
            ".env is in the git repository, with its keys",
            "git rm --cached .env, add .env to .gitignore, and replace the keys: the history of "
            "the repository still has them",
        )
    if _git(examined, "check-ignore", "-q", _ENV_FILE) != 0:
        return Found(
            "warning", "git does not ignore .env, so `git add .` adds its keys",
            "add the line .env to .gitignore",
        )  # fmt: skip
    return ok("git ignores .env")


def _git(examined: Examined, *arguments: str) -> int:
    """Return the exit code of a git command; that of a missing command without git."""
    git = shutil.which("git")
    if git is None:
        return 127
    try:
        return subprocess.run(  # noqa: S603 - fixed arguments
            [git, *arguments], cwd=examined.folder, capture_output=True, check=False, timeout=10
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 127


def check_key_in_scenario(examined: Examined) -> Found:
    """Find an API key in the text of the scenario."""
    fix = "name its variable in endpoint.api_key_env, remove it from the file, and replace the key"
    for name, value in examined.environment.items():
        is_secret = name in _variables(examined) and len(value.strip()) >= _SHORTEST_KEY
        if is_secret and value.strip() in examined.text:
            return Found("failure", f"the scenario file contains the value of {name}", fix)
    for number, line in enumerate(examined.text.splitlines(), 1):
        if _SECRET.search(line):
            return Found("failure", f"line {number} of the scenario file looks like a key", fix)
    return ok("no key in the scenario file")


def _variables(examined: Examined) -> set[str]:
    return {name for mine in examined.own.values() for name in mine.endpoint.facts.secret_variables}


def check_base_url(examined: Examined) -> Found:
    """Find a base URL without a path, or with the path of the requests."""
    url = _base_url(examined)
    if url is None:
        return skipped(IS_SIMULATED)
    parts = urlsplit(url)
    if parts.path.rstrip("/").endswith("/completions"):
        return Found(
            "failure", f"{url} is the address of one kind of request",
            "remove /chat/completions from endpoint.base_url",
        )  # fmt: skip
    if parts.path.strip("/") or parts.hostname in _WITHOUT_VERSION:
        return ok(url)
    return Found(
        "warning", f"{url} has no path, and the API of most servers is below /v1",
        f'base_url = "{url.rstrip("/")}/v1", unless the server has it elsewhere',
    )  # fmt: skip


def check_proxy(examined: Examined) -> Found:
    """Find proxies that cannot be used, or that stand before this machine."""
    url = _base_url(examined)
    if url is None:
        return skipped(IS_SIMULATED)
    try:
        for mine in examined.own.values():
            preflight.environment_of(mine)
    except PreflightError as error:
        return Found("failure", str(error), "unset the variable, or correct it")
    import httpx2

    found = environment_proxy(httpx2.URL(url))
    if found is None:
        return ok("no proxy")
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.startswith("127."):
        return Found(
            "failure", f"requests to {host} go to the proxy {found.url.host}",
            f"NO_PROXY={host}",
        )  # fmt: skip
    return ok(f"requests go through the proxy {found.url.host}")


def _base_url(examined: Examined) -> str | None:
    """Return the base URL of an endpoint that the run does not start."""
    facts = examined.scenario.endpoint.facts
    return None if facts.own_server else getattr(examined.scenario.endpoint, "base_url", None)
