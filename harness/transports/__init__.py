"""One attempt on the wire."""
