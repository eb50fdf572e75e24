"""From records to data frames."""

from bench.results.measured import Measured, load

__all__ = ["Measured", "load"]
