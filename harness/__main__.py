"""Lets `python -m harness` do what the `harness` command does."""

from harness.cli.main import run_and_exit

if __name__ == "__main__":
    run_and_exit()
