"""The workflow as a program of effects: nothing in here waits, reads a clock or opens a socket."""
