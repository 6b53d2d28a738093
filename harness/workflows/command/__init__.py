"""`kind = "command"`: a workflow is one run of a command, a program in any language.

Its requests go to a gateway on this machine, which makes a call of each.
"""
