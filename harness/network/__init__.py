"""HTTP exchanges of the harness itself, apart from those that it measures."""
