"""The clock and the machine: what is timed, and on what."""
