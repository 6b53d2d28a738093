"""The simulated provider: an OpenAI-compatible API that simulates response times."""
