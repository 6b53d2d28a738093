"""What people see: the terminal, plots and traces, all made from records."""
