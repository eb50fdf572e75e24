"""Build what a cell describes (networks, methods, batches), and count its operations."""
