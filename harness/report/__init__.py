"""What people see: terminal output, HTML report, plots and exports, all made from records."""
