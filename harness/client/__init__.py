"""Clients of the openai package with permits and a retry policy, as they were measured.

They run the same programs as a measurement: see `harness.engine.call`.
"""
