"""HTTP apart from what is measured: the exchanges of the harness itself, and its listeners."""
