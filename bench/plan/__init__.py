"""Plan the jobs of a manifest in waves, with their progress and expected time."""
