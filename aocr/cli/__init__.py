"""The command line: one module per command, with its flags, its checks and one call."""
