"""Pure decisions: whether to try again and when."""
