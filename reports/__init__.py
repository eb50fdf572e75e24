"""Reports: the tables and figures of recorded results."""
