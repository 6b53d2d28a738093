"""Fits a profile of the simulated provider from the records of runs."""
