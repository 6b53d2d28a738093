"""`kind = "program"`: a workflow is the user's own async function.

A function with the decorator `harness.workflow` gets a function `ask` and makes its calls with it.
Any other async function uses the openai package, whose requests the harness takes over.
"""
