"""Fit of the time of an epoch over ranks: a parallel, a serial and a communication part.

At the same global batch size, T(p) / T(1) = (1 - serial) / p + serial + communication (p - 1): Amdahl's law (1967) with
a term for communication that grows with each further rank, as in the universal scalability law (Gunther 1993). Both
parts are shares of the time on one rank, and at least 0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.results.intervals import RUNS
from bench.results.statistics import CONFIDENCE, Interval

_DRAWS = 4000


class Law(NamedTuple):
    """The parts of a fit with bootstrap intervals, and each number of ranks as the others predict it."""

    serial: Interval
    communication: Interval
    left_out: dict[int, Interval]
    """By number of ranks, the time relative to one rank that the fit to the other numbers predicts."""


def fit(times: Mapping[int, Sequence[float]]) -> Law | None:
    """Fit the mean times of runs, by number of ranks; None without one rank and two further numbers of ranks.

    Intervals are those of 4,000 parametric bootstrap draws: the mean of each number of ranks varies by Student's t with
    the standard error of its runs. There are none where a number of ranks has fewer than 3 runs.
    """
    ranks = np.array(sorted(times))
    if len(ranks) < 3 or ranks[0] != 1:
        return None
    means = np.array([[np.mean(times[p]) for p in ranks]])
    draws = _drawn([np.asarray(times[p], float) for p in ranks])
    both = np.concatenate([means, draws])
    relative = both[:, 1:] / both[:, :1]
    serial, communication = _solved(ranks[1:], relative)
    left_out = {}
    for k, p in enumerate(ranks[1:]):
        others = np.delete(np.arange(len(ranks) - 1), k)
        parts = _solved(ranks[1:][others], relative[:, others])
        left_out[int(p)] = _interval(_law(np.array([p]), *parts)[:, 0])
    return Law(_interval(serial), _interval(communication), left_out)


def _law(ranks: np.ndarray, serial: np.ndarray, communication: np.ndarray) -> np.ndarray:
    """Times (draws, ranks) relative to one rank."""
    return 1 / ranks + np.outer(serial, 1 - 1 / ranks) + np.outer(communication, ranks - 1)


def _solved(ranks: np.ndarray, relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Serial and communication parts (draws,) of the least squares of relative errors, neither below 0."""
    # The model is linear in both parts; dividing by the times makes the errors relative.
    first, second, rest = (1 - 1 / ranks) / relative, (ranks - 1) / relative, 1 - 1 / ranks / relative
    a, b, c = (first**2).sum(-1), (first * second).sum(-1), (second**2).sum(-1)
    u, v = (first * rest).sum(-1), (second * rest).sum(-1)
    det = a * c - b**2
    # One further number of ranks cannot tell the parts apart: all that it lacks is then serial.
    free = det > 1e-12 * a * c
    safe = np.where(free, det, 1)
    serial, communication = (np.where(free, value / safe, -1) for value in (c * u - b * v, a * v - b * u))
    serial, communication = (
        np.where(communication < 0, u / a, serial),
        np.where(serial < 0, v / c, communication),
    )
    communication = np.where((communication < 0) | ~free, 0, communication)
    return np.maximum(serial, 0), np.maximum(communication, 0)


def _drawn(runs: list[np.ndarray]) -> np.ndarray:
    """Draws (draws, ranks) of the means; none where a number of ranks has fewer than RUNS runs."""
    if min(map(len, runs)) < RUNS:
        return np.empty((0, len(runs)))
    random = np.random.default_rng(0)
    return np.stack(
        [
            values.mean() + random.standard_t(len(values) - 1, _DRAWS) * values.std(ddof=1) / np.sqrt(len(values))
            for values in runs
        ],
        axis=1,
    )


def _interval(values: np.ndarray) -> Interval:
    """The first value, with the ends of the middle of the others; NaN ends without others."""
    if len(values) == 1:
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(values[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values[0]), float(low), float(high))
