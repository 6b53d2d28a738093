"""The parts of configuration files: tables, durations, faults, prices, budgets and messages."""
