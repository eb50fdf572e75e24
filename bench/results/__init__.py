"""Results computed from records: times, accuracies, ratios and their intervals."""

from bench.results.loading import load
from bench.results.measured import Measured

__all__ = ["Measured", "load"]
