"""Means and proportions with 95 % intervals."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RUNS = 3
"""Fresh runs from which an interval is over runs; with fewer it is within a run, and says so."""


class Interval(NamedTuple):
    """An estimate and its interval; NaN ends where there are too few values."""

    mean: float
    low: float
    high: float


NOTHING = Interval(math.nan, math.nan, math.nan)


def mean_ci(values: list[float]) -> Interval:
    """Mean and Student's t interval of independent values."""
    if not values:
        return NOTHING
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def nested_ci(runs: list[list[float]]) -> Interval:
    """Mean of run means, its interval over runs where there are RUNS of them, else over all values ("within run")."""
    runs = [values for values in runs if values]
    means = [float(np.mean(values)) for values in runs]
    if len(runs) >= RUNS:
        return mean_ci(means)
    within = mean_ci([value for values in runs for value in values])
    return within._replace(mean=float(np.mean(means))) if runs else NOTHING


def wilson(count: int, total: int) -> Interval:
    """A proportion and its Wilson interval."""
    if total == 0:
        return NOTHING
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(count / total, interval.low, interval.high)
