"""From a cell to the objects that run: networks, methods, batches, and what they cost."""
