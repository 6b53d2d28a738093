"""Effects, calls, permits, budgets and the interpreters that run a program."""
