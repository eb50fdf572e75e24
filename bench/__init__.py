"""The benchmark: from a manifest to records."""
