"""Keys from the environment, or from a file `.env` in the current folder with KEY=VALUE lines.

The environment takes precedence. No message shows the content of the file, as it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from harness.records.errors import InputError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z", re.DOTALL)
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?\Z""")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def with_file(environment: Mapping[str, str], path: Path, wanted: str) -> Mapping[str, str]:
    """Return `environment`, extended by the file at `path` if `wanted` is not in it.

    A missing file counts as empty. Raises InputError for a file that cannot be read.
    """
    if wanted in environment or not path.exists():
        return environment
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); correct or remove it"
        ) from None
    return {**parse_env(text, str(path)), **environment}


def parse_env(text: str, where: str) -> dict[str, str]:
    """Return the names and values in `text`; the last value of a name is used.

    `# comments` and blank lines are ignored, and `export` before a name is allowed. A value in
    single quotes is literal; in double quotes, a backslash escapes a character; without quotes, the
    value ends before ` #`. Raises InputError, which names the line of `where` but does not show it.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.match(stripped)
        if match is None:
            raise InputError(f"{where}:{number}: must have the form KEY=VALUE; correct that line")
        value = _value(match[2])
        if value is None:
            raise InputError(f"{where}:{number}: the closing quote is missing; correct that line")
        found[match[1]] = value
    return found


def _value(text: str) -> str | None:
    if text[:1] not in ("'", '"'):
        return re.split(r"(?:\A|\s)#", text, maxsplit=1)[0].strip()
    match = _QUOTED.match(text)
    if match is None:
        return None
    if match[1] is not None:
        return match[1]
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), match[2])
