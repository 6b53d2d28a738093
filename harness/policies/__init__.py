"""Retry policies: pure decisions whether to try again, and when."""
