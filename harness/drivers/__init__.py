"""The interpreters of the program and the permits: the only code that waits."""
