"""What the harness itself costs, and what the patterns it measures buy."""
