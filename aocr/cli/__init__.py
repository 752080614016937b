"""The command line: one module a command, with its flags, its checks and one call."""
