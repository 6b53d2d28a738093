"""Scenarios to start from."""

from __future__ import annotations

HEAD = 'name = "example"\n[workflow]\ntopics = ["tides"]\n'
LIVE = HEAD + '[endpoint]\nkind = "openai"\nbase_url = "https://api.test/v1"\nmodel = "m"\n'
FULL = '[retry.full]\nkind = "exponential"\n'

EXAMPLE = """
name = "example"
seed = 7

[workflow]
kind = "research"
topics = ["ocean tides", "battery recycling"]
sub_questions = 4
carry_reasoning = false
on_branch_failure = "synthesize-with-gaps"
max_tokens = { decompose = 2000, research = 4000, synthesize = 4000 }

[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"
time_scale = 0.02
stream = true

[load]
workflows = 8
in_flight = 2

[timeouts]
connect = "5s"
first_token = "2m"
idle = "30s"
call = "10m"

[sweep]
mode = ["sync", "async"]
permits = [2, 8]
retry = ["none", "full-jitter"]
permit_scope = ["attempt"]
repeats = 3

[retry.full-jitter]
kind = "exponential"
jitter = "full"
attempts = 5
base = "500ms"
cap = "20s"

[objective]
minimise = "makespan"

[slo]
success_rate = 0.99

[budget]
attempts = 5000
"""
