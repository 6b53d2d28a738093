"""Programs that benchmarks run as workflows."""
