"""The number of runs that a stated precision of a study's ratios needs, in two stages (Stein 1945).

The spread of the first runs decides once how many are timed in all. With d degrees of freedom and s the standard
deviation of the first runs' mean log ratios, an interval with half-width w needs (t s / w)^2 runs.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from bench.manifest.manifest import Study, Timing
from bench.results.intervals import two_stage
from bench.results.loading import measure
from bench.results.ratios import pairs
from bench.results.statistics import t_interval, t_quantile


class Precision(NamedTuple):
    """Precision of a study's ratios."""

    runs: int
    """Number of runs so far."""
    reached: float
    """Half-width of the widest interval, relative to its ratio (0.02: ±2 %); NaN before the first runs are complete."""
    needed: int
    """Number of runs that `timing.until` needs by the first runs, at most `timing.at_most`."""

    @property
    def known(self) -> bool:
        """True if the first runs are complete, so that the number of all is decided."""
        return not math.isnan(self.reached)


def precision(study: Study, folder: Path) -> Precision:
    """Precision of a study by its records in a runs folder; its `needed` is the limit until the first runs are done."""
    timing = study.timing
    means = list(run_means(study, folder).values())
    complete = min((len(values) for values in means), default=0)
    if timing.until is None or complete < timing.runs:
        return Precision(complete, math.nan, timing.most_runs)
    widths = [t_interval(two_stage(values, timing.runs)) for values in means]
    reached = max(math.expm1(interval.high - interval.mean) for interval in widths)
    return Precision(complete, reached, needed_runs([values[: timing.runs] for values in means], timing))


def run_means(study: Study, folder: Path) -> dict[str, list[float]]:
    """Mean log ratio of each complete run, in order, by the id of each arm that is compared with a baseline."""
    arms = {m.id: m for m in measure(study, folder, study.arms)}
    found = {}
    for arm, baseline in study.references.items():
        runs = pairs(arms[arm], arms[baseline])
        if runs:  # an arm that the device does not support has none
            found[arm] = [fmean(logs) for logs in runs if len(logs) >= study.timing.rounds]
    return found


def needed_runs(first: Iterable[list[float]], timing: Timing) -> int:
    """Number of runs with which no ratio's interval is wider than ±`timing.until`, within the limits of `timing`.

    `first` has the means of the first runs' log ratios, for each ratio.
    """
    if timing.until is None:
        return timing.runs
    needed = [runs_for(stdev(means), timing.until, len(means)) for means in first]
    return min(max(timing.runs, *needed), timing.most_runs)


def runs_for(sd: float, until: float, first: int) -> int:
    """Number of runs that the standard deviation `sd` of the `first` runs' mean log ratios needs for ±`until`."""
    return math.ceil((t_quantile(first - 1) * sd / math.log1p(until)) ** 2)
