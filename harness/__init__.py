"""Measures how an LLM workflow should call its model: permits, retries, sync or async."""

__version__ = "0.1.0"
