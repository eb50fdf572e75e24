"""Observations: everything that a report's tables hold, tidy, with one observation a row."""

from reports.observations.all_observations import observations
from reports.observations.metrics import METRICS
from reports.observations.observation import COLUMNS, INTERVALS

__all__ = ["COLUMNS", "INTERVALS", "METRICS", "observations"]
