"""Hypothesis without deadlines: no test here asserts on wall time."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
