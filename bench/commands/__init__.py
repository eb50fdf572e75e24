"""The work of the commands that submit no jobs."""
