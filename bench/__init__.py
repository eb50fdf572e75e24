"""The benchmark: turns a manifest into records."""
