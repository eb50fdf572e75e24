"""Results computed from records: times, accuracies, ratios and their intervals."""

from bench.results.measured import Measured, load

__all__ = ["Measured", "load"]
