"""Makes golden runs anew: `python -m tests.golden [NAME ...]`, from the repository's root.

A golden run says what the program must go on computing. It may change only in a commit whose
message names every field that changed, its old value, its new value and the reason. Whoever renames
a field or a value adds a line to `renames.py` instead and leaves the golden runs alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.golden.runs import GOLDEN, SCHEMA_1, Kept, call, run, save, summary_of, unpack


def main(names: list[str]) -> None:
    """Write the golden runs called `names`; all of them if there are none."""
    known = [*(golden.name for golden in GOLDEN), SCHEMA_1.name]
    if unknown := set(names) - set(known):
        sys.exit(f"unknown golden run: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    wanted = names or known
    with tempfile.TemporaryDirectory() as folder:
        for golden in GOLDEN:
            if golden.name in wanted:
                save(golden.name, run(golden, Path(folder) / golden.name))
        if SCHEMA_1.name in wanted:
            directory = Path(folder) / SCHEMA_1.name
            unpack(directory)
            assert call(["report", str(directory)]) == 0
            save(SCHEMA_1.name, Kept({}, *summary_of(directory)))


if __name__ == "__main__":
    main(sys.argv[1:])
