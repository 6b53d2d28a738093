"""Lets `python -m harness` do what the `harness` command does."""

import sys

from harness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
