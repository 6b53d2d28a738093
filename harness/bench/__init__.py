"""Scenario files, cells, trials and the run directory."""
