"""Plots of a run, made from its summary and records. `draw` writes them all."""
