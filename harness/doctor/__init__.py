"""Checks of a scenario and its surroundings before production."""
