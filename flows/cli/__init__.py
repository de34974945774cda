"""The command line: `commands` holds one file a command, and what is beside it is shared."""
