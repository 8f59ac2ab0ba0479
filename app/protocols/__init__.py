"""Other protocols than the native one: thin routes onto the one pipeline."""
