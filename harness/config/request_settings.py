"""How the requests to an endpoint differ from plain ones: headers, query, key, body, TLS.

The value `env:NAME` of a header or of a query parameter names an environment variable, so that no
secret is in a scenario file or in a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from harness.config.tables import SettingError

SystemMessages = Literal["message", "user", "omit"]
Auth = str
ClientKind = Literal["openai", "wire"]
"""What sends the requests: the openai package, or sockets alone."""

NO_KEY = "none"
"""Stands for an API key where none is sent, because the openai package requires one."""

AUTHORIZATION = "Authorization"

_FROM_ENVIRONMENT = "env:"
_HEADER_AUTH = "header:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_SET_BY_HARNESS = {
    "authorization": "use api_key_env and auth",
    "connection": "use reuse_connections",
    "content-length": "remove it",
    "content-type": "remove it",
    "host": "remove it",
    "traceparent": "remove it",
    "transfer-encoding": "remove it",
}
"""Headers that the harness or its HTTP client sets, and the way out."""
_SECRET_WORDS = frozenset(
    {
        "apikey", "auth", "code", "cookie", "credential", "credentials", "key", "passwd",
        "password", "secret", "sig", "signature", "token",
    }
)  # fmt: skip
"""A header or parameter whose name has one of these words is assumed to hold a secret."""
_SECRET_BEGINS = ("bearer ", "basic ", "sk-")
_NEEDED = ("messages", "stream")
"""Keys of the body that are always sent under their own names."""


class RequestSettings(NamedTuple):
    """The settings of an endpoint's requests; see the keys of `[endpoint]` with these names.

    `headers`, `query`: their values, or `env:NAME` until `with_values` has replaced it.
    """

    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    auth: Auth = "bearer"
    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = {}
    system: SystemMessages = "message"
    ca_file: str | None = None
    verify: bool = True
    follow_redirects: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that headers and query name."""
        values = (*self.headers.values(), *self.query.values())
        return tuple(dict.fromkeys(filter(None, map(variable_of, values))))

    def with_values(self, values: Mapping[str, str]) -> RequestSettings:
        """Return the settings with the values of environment variables in place of their names."""

        def filled(table: Mapping[str, str]) -> dict[str, str]:
            named = {name: variable_of(value) for name, value in table.items()}
            return {
                name: value if (variable := named[name]) is None else values[variable]
                for name, value in table.items()
            }

        return self._replace(headers=filled(self.headers), query=filled(self.query))

    def key_headers(self, api_key: str) -> dict[str, str | None]:
        """Return the headers that carry the API key; None for one that must not be sent."""
        if self.auth == "bearer":
            return {}  # the openai package sends it
        if (name := key_header(self.auth)) is not None:
            return {AUTHORIZATION: None, name: api_key}
        return {AUTHORIZATION: None}


class Secrets(NamedTuple):
    """The secrets of one endpoint: the API key, and the values of environment variables by name."""

    api_key: str
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that no record may contain."""
        own = () if self.api_key == NO_KEY else (self.api_key,)
        return (*own, *(value for _, value in self.variables))


def variable_of(value: str) -> str | None:
    """Return the environment variable that a value names; None for a plain value."""
    name = value.removeprefix(_FROM_ENVIRONMENT)
    return name if name != value else None


def key_header(auth: Auth) -> str | None:
    """Return the header that carries the API key; None if it is not a header of its own."""
    name = auth.removeprefix(_HEADER_AUTH)
    return name if name != auth else None


def has_variable(values: object) -> bool:
    """Return whether a table of headers or of a query names an environment variable."""
    listed: Iterable[object] = values.values() if isinstance(values, Mapping) else ()
    return any(isinstance(value, str) and variable_of(value) is not None for value in listed)


def in_folder_of_scenario(values: Mapping[str, Any], folder: Path, typed: Iterable[str]) -> None:
    """Make the relative paths of `[endpoint]` in a scenario relative to its folder.

    These are `ca_file`, and a `profile` that names a file; `[sweep]` can have profiles, too. That
    of a key in `typed` stays relative to the current folder: it was set on the command line.
    """
    endpoint, sweep, kept = values.get("endpoint"), values.get("sweep"), set(typed)
    if isinstance(endpoint, dict):
        if "endpoint.ca_file" not in kept and _is_name(endpoint.get("ca_file")):
            endpoint["ca_file"] = str(folder / endpoint["ca_file"])
        if "endpoint.profile" not in kept:
            endpoint.update(_profile_in(folder, endpoint, "profile"))
    if isinstance(sweep, dict) and 'sweep."endpoint.profile"' not in kept:
        sweep.update(_profile_in(folder, sweep, "endpoint.profile"))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _profile_in(folder: Path, table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the key with its paths of profiles, one or a list, relative to a folder."""

    def placed(value: Any) -> Any:
        is_file = isinstance(value, str) and (value.endswith(".toml") or "/" in value)
        return str(folder / value) if is_file else value

    value = table.get(key)
    if value is None:
        return {}
    return {key: [placed(one) for one in value] if isinstance(value, list) else placed(value)}


def may_be_secret(name: str, value: str) -> bool:
    """Return whether a value with this name in a file looks like a secret."""
    words = re.split(r"[^a-z]+", name.lower())
    return bool(_SECRET_WORDS.intersection(words)) or value.lower().startswith(_SECRET_BEGINS)


def _checked_value(name: str, value: str) -> None:
    """Raise SettingError, without the value, if it cannot be sent or may be a secret."""
    variable = variable_of(value)
    if variable is not None:
        if not _VARIABLE.match(variable):
            raise SettingError('must name an environment variable, as in "env:MY_KEY"', name)
        return
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise SettingError("must be printable ASCII without blanks at its ends", name)
    if may_be_secret(name, value):
        raise SettingError(
            "may be a secret, which is not written in a file; put it into an environment variable "
            'or .env, and write "env:ITS_NAME"',
            name,
        )


def _headers(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not _HEADER_NAME.match(name):
            raise SettingError("is not the name of a header; correct it", name)
        if name.lower() in _SET_BY_HARNESS:
            raise SettingError(f"is set by the harness; {_SET_BY_HARNESS[name.lower()]}", name)
        _checked_value(name, value)
    if len({name.lower() for name in values}) != len(values):
        raise ValueError("has the same header twice; remove one")
    return values


def _query(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        _checked_value(name, value)
    return values


def _auth(value: str) -> str:
    name = key_header(value)
    is_header = name is not None and _HEADER_NAME.match(name)
    if value not in ("bearer", "none") and not is_header:
        raise SettingError("must be 'bearer', 'header:NAME' or 'none'", value=value)
    if name is not None and name.lower() in _SET_BY_HARNESS:
        raise SettingError("names a header that the harness sets; use 'bearer'", value=value)
    return value


def _omit(values: tuple[str, ...]) -> tuple[str, ...]:
    for name in values:
        if name in _NEEDED:
            raise SettingError(f"cannot leave out {name}{_instead(name)}", value=name)
    return values


def _rename(values: dict[str, str]) -> dict[str, str]:
    for name, new in values.items():
        if name in _NEEDED or not new.strip():
            raise SettingError("cannot be renamed so; remove it", name, value=new)
    if len(set(values.values())) != len(values):
        raise ValueError("gives two keys the same name; remove one")
    return values


def _instead(name: str) -> str:
    return "; set endpoint.stream = false" if name == "stream" else ", which every request needs"


Headers = Annotated[dict[str, str], AfterValidator(_headers)]
Query = Annotated[dict[str, str], AfterValidator(_query)]
AuthText = Annotated[
    str,
    AfterValidator(_auth),
    Field(json_schema_extra={"pattern": r"^(bearer|none|header:.+)$"}),
]
Omitted = Annotated[tuple[str, ...], AfterValidator(_omit), Field(strict=False)]
Renamed = Annotated[dict[str, str], AfterValidator(_rename)]
