"""`harness completion`: scripts that complete commands, options, scenarios and runs in a shell.

A script asks `harness complete`, whose arguments are the words of the command line after `harness`,
the last of which is to be completed. It prints one candidate a line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.cli.parser import command_parsers
from harness.config.shipped_scenarios import described
from harness.store.run_directory import RUN_FILE

_SCRIPTS = {
    "bash": r"""_harness() {
    local IFS=$'\n'
    COMPREPLY=($(harness complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _harness harness
""",
    "zsh": r"""#compdef harness
_harness() {
    local -a found
    found=("${(@f)$(harness complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
compdef _harness harness
""",
    "fish": r"""function __harness_complete
    set -l words (commandline -opc) (commandline -ct)
    harness complete -- $words[2..] 2>/dev/null
end
complete -c harness -a '(__harness_complete)'
""",
}


def print_script(options: argparse.Namespace) -> int:
    """Print the script of a shell."""
    print(_SCRIPTS[options.shell], end="")
    return 0


def print_candidates(options: argparse.Namespace) -> int:
    """Print what can stand for the last word."""
    words = options.words[options.words[:1] == ["--"] :]  # some versions of argparse keep it
    print("".join(f"{one}\n" for one in candidates(words)), end="")
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """Return what can stand for the last of `words`; nothing where any file can."""
    *before, current = words or [""]
    parsers = command_parsers()
    if not before:
        found: Iterable[str] = parsers
    elif before[0] not in parsers:
        found = ()
    else:
        found = _of_command(parsers[before[0]], before[1:], current)
    return [one for one in found if one.startswith(current)]


def _of_command(
    parser: argparse.ArgumentParser, before: Sequence[str], current: str
) -> Iterable[str]:
    options = {name: action for action in parser._actions for name in action.option_strings}
    positional = [action for action in parser._actions if not action.option_strings]
    given = 0
    wanted: argparse.Action | None = None
    for word in before:
        if wanted is not None:
            wanted = None  # this word is its value
        elif word in options:
            wanted = options[word] if options[word].nargs != 0 else None
        else:
            given += 1
    if wanted is None and current.startswith("-"):
        return options
    if wanted is None:
        wanted = positional[given] if given < len(positional) else None
    if wanted is None:
        return ()
    if wanted.choices is not None:
        return map(str, wanted.choices)
    values = _VALUES.get(wanted.dest)
    return () if values is None else values()


def _runs() -> list[str]:
    """Return the run directories in the default place."""
    return sorted(str(file.parent) for file in Path("results").glob(f"*/{RUN_FILE}"))


def _profiles() -> list[str]:
    from harness.simulator.profiles import shipped_profiles

    return [profile.name for profile in shipped_profiles()]


_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "scenario": described, "scenarios": described, "name": described, "profile": _profiles,
    "run": _runs, "runs": _runs, "base": _runs, "new": _runs, "resume": _runs,
}  # fmt: skip
"""The values of arguments, by the names of the arguments."""
