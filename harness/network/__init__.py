"""HTTP without what is measured: exchanges of the harness itself, and the server of its listeners."""
