"""Runs in a test suite: the pytest plugin, and what it asserts."""
