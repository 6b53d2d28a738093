"""The simulated provider: an OpenAI-compatible API with a model of time behind it."""
