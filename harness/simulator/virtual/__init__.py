"""Virtual time: programs run against the provider model on a clock that jumps."""
