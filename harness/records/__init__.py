"""The facts of a run: records, their keys and ids, times, failure classes, histograms."""
