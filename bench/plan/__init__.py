"""From a manifest to jobs in waves: how far they are and how long they take."""
