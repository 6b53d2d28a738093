"""Virtual time: the same programs straight against the provider model, on a clock that jumps."""
