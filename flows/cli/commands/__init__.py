"""One file a command, which declares a `COMMAND`. What is heavy is imported when it runs: help comes at once."""
