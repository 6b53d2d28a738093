"""The kinds of endpoint that a scenario can name, and the servers that the harness starts."""
