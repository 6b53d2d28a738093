"""The run directory: its files, its writer, its lock and how it is read back."""
