"""Implementation of the commands that submit no jobs."""
