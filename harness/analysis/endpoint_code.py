"""The settings of an endpoint's requests as Python lines: arguments of a client, and of a request.

Secrets are read from the environment variables that the scenario names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness.config.request_settings import AUTHORIZATION, key_header, variable_of

_WIDTH = 70
"""The most characters of an argument in one line."""


class EndpointCode(NamedTuple):
    """What a client and its requests need beyond the defaults.

    `imports`: modules. `client`: arguments of the client, some in several lines. `before`:
    lines before the function that sends a request. `request`: lines at its beginning.
    """

    imports: frozenset[str]
    client: tuple[str, ...]
    before: tuple[str, ...]
    request: tuple[str, ...]


def endpoint_code(endpoint: Mapping[str, Any], *, in_async: bool) -> EndpointCode:
    """Return the code for the keys of `[endpoint]`."""
    imports: set[str] = set()
    client = [*_tables(endpoint)]
    trust = _trust(endpoint)
    if trust is not None:
        kind = "DefaultAsyncHttpxClient" if in_async else "DefaultHttpxClient"
        client.append(f"http_client=openai.{kind}(\n    verify={trust}, timeout=None\n)")
        imports |= {"openai", *(["ssl"] if "ssl." in trust else [])}
    before, request = _key(endpoint)
    if before:
        imports.add("openai")
    if any("os.environ" in line for line in (*client, *before)):
        imports.add("os")
    lines = (*request, *(f"# measured {what}" for what in _differences(endpoint)))
    return EndpointCode(frozenset(imports), tuple(client), before, lines)


def _tables(endpoint: Mapping[str, Any]) -> Iterator[str]:
    headers = dict(endpoint.get("headers", {}))
    if not endpoint.get("reuse_connections", True):
        headers["Connection"] = "close"
    for name, values in (("headers", headers), ("query", endpoint.get("query", {}))):
        if values:
            pairs = [f"{json.dumps(key)}: {_text(value)}" for key, value in values.items()]
            whole = f"default_{name}={{{', '.join(pairs)}}}"
            lines = "".join(f"    {pair},\n" for pair in pairs)
            yield whole if len(whole) < _WIDTH else f"default_{name}={{\n{lines}}}"


def _text(value: str) -> str:
    variable = variable_of(value)
    return json.dumps(value) if variable is None else f"os.environ[{json.dumps(variable)}]"


def _trust(endpoint: Mapping[str, Any]) -> str | None:
    if not endpoint.get("verify", True):
        return "False"
    if file := endpoint.get("ca_file"):
        return f"ssl.create_default_context(cafile={json.dumps(file)})"
    return None


def _key(endpoint: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    auth = endpoint.get("auth", "bearer")
    if auth == "bearer":
        return (), ()
    lines = ["KEY = {", f'    "{AUTHORIZATION}": openai.Omit(),']
    if (name := key_header(auth)) is not None:
        lines.append(f"    {json.dumps(name)}: os.environ[{json.dumps(endpoint['api_key_env'])}],")
    return (*lines, "}"), ('request = {"extra_headers": KEY, **request}',)


def _differences(endpoint: Mapping[str, Any]) -> Iterator[str]:
    if endpoint.get("client") == "wire":
        yield "with client = 'wire'; the openai package takes more time"
    for key in endpoint.get("omit", ()):
        yield f"without {key}"
    for key, name in endpoint.get("rename", {}).items():
        yield f"with {name} instead of {key}"
    system = endpoint.get("system", "message")
    if system == "user":
        yield "with system prompts in the messages of the user"
    elif system == "omit":
        yield "without system prompts"
