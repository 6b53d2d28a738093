"""What configuration files are made of: tables, durations, faults, prices, budgets, messages."""
