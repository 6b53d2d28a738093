"""The kinds of workflow: programs that ask a model."""
