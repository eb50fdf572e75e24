"""Means, ratios and differences with 95 % intervals, and flags for odd times."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Literal

import numpy as np
from scipy import special

from bench.results.statistics import CONFIDENCE, NOTHING, Interval, Mean, independent, t_interval, t_quantile

RUNS = 3
"""Fresh runs from which an interval is over runs; with fewer it is within a run, and says so."""
_TREND, _CHANGE = 0.01, 0.02
_SCORE = 3.5
_DRAWS = 9999
"""Of a bootstrap."""


def runs_ci(runs: list[list[float]]) -> Interval:
    """Mean of run means and Student's t interval over them; runs without values do not count."""
    return t_interval(_over_runs(runs))


def nested_ci(runs: list[list[float]]) -> Interval:
    """Mean of run means of times, its interval over runs where there are RUNS of them, else within the runs there are.

    Times are positive, so the interval is cut at 0, as Fieller's is: it holds the truth as often as before.
    """
    mean, low, high = t_interval(_nested(runs))
    return Interval(mean, 0.0 if low < 0 else low, high)


def paired_ratio(logs: list[list[float]]) -> Interval:
    """Geometric mean ratio from each run's log-ratios of paired rounds; over or within runs, as nested_ci."""
    return _exp(t_interval(_nested(logs)))


def welch_ratio(a: list[list[float]], b: list[list[float]]) -> Interval:
    """Ratio of the geometric means of run means, Welch's interval on logs; the runs of a and b are independent.

    With a single run on a side there is an estimate and no interval.
    """
    parts = [independent(np.log(_means(runs)).tolist()) for runs in (a, b)]
    return _exp(t_interval(_combine(parts, np.array([1, -1]))))


def fieller_ratio(a: list[list[float]], b: list[list[float]]) -> Interval:
    """Ratio of the arithmetic means of run means, Fieller's interval; the runs of a and b are independent.

    The degrees of freedom are Satterthwaite's, of mean(a) - ratio * mean(b) at the estimate. Times are positive, so the
    set is cut at 0; where mean(b) is not told from 0 it has no upper end, and high is inf.
    """
    above, below = _over_runs(a), _over_runs(b)
    ratio = above.mean / below.mean
    t = t_quantile(_combine([above, below], np.array([1, -ratio])).df)
    product = above.mean * below.mean
    first, last = below.mean**2 - t**2 * below.variance, above.mean**2 - t**2 * above.variance
    root = math.sqrt(max(product**2 - first * last, 0))
    high = math.inf if first <= 0 else (product + root) / first
    return Interval(ratio, max(last, 0) / (product + root), high)


def mean_ratio(logs: list[list[list[float]]], kind: Literal["geometric", "arithmetic"]) -> Interval:
    """Mean over architectures of the paired ratio; nothing where an architecture has none.

    Architectures are a fixed set and their runs are independent: the variances of their log-ratios add up, each with
    the squared derivative of the log of the mean (the delta method, exact for the geometric), df after Satterthwaite.
    """
    parts = [_nested(runs) for runs in logs]
    means = np.array([part.mean for part in parts])
    if not parts or np.isnan(means).any():
        return NOTHING
    weights = {"geometric": np.ones_like, "arithmetic": np.exp}[kind](means)
    mean = means.mean() if kind == "geometric" else math.log(weights.mean())
    return _exp(t_interval(_combine(parts, weights / weights.sum())._replace(mean=mean)))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """The exact two-sided p of McNemar's test that a and b, right or wrong on the same images, are right equally often.

    Only images count on which one is right and the other wrong (McNemar 1947); without any, 1.
    """
    only_a, only_b = (int(np.greater(*pair).sum()) for pair in ((a, b), (b, a)))
    # Both tails of a fair coin's are alike; where they meet in the middle it is counted twice.
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def paired_difference(a: list[float], b: list[float]) -> Interval:
    """Mean of a - b over the same images, and the percentile bootstrap's interval over images drawn anew in pairs.

    The draws are seeded: the same values give the same interval.
    """
    if len(a) < 2:
        return Interval(a[0] - b[0], math.nan, math.nan) if a else NOTHING
    found = _resampled(tuple(a)) - _resampled(tuple(b))
    ends = np.quantile(found, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(fmean(a) - fmean(b), *map(float, ends))


@lru_cache(maxsize=1024)
def _resampled(values: tuple[float, ...]) -> np.ndarray:
    """The mean of each of _DRAWS draws of these values; kept, for one network is compared with many."""
    counts, blocks = _counts(len(values)), range(0, _DRAWS, 500)
    return np.concatenate([counts[k : k + 500].astype(float) @ values for k in blocks]) / len(values)


@lru_cache(maxsize=1)
def _counts(n: int) -> np.ndarray:
    """How often each draw has each of n images: the same draws for every network, which pairs them."""
    random = np.random.default_rng(0)
    counts = np.empty((_DRAWS, n), np.uint8)
    for row in counts:
        row[:] = np.bincount(random.integers(0, n, n), minlength=n)
    return counts


def drift(values: list[float]) -> float | None:
    """Relative change over a run's times where they have a trend worth naming, else None.

    The trend is Mann's and Kendall's: how many more pairs rise than fall, against the normal law, corrected for
    continuity and ties (Kendall 1975). The change is that of the Theil-Sen line through the logs, from the first value
    to the last. Autocorrelation looks like a trend: of 4,000 simulated runs of 10 epochs without one, 0.3, 4.5 and 19 %
    have it at phi = 0, 0.5 and 0.9.
    """
    n, logs = len(values), np.log(values)
    earlier, later = np.triu_indices(n, 1)
    rise = logs[later] - logs[earlier]
    alike = np.unique(logs, return_counts=True)[1]
    variance = (_pairs(n) - _pairs(alike).sum()) / 18
    if abs(np.sign(rise).sum()) - 1 <= special.ndtri(1 - _TREND / 2) * math.sqrt(variance):
        return None
    change = math.expm1(np.median(rise / (later - earlier)) * (n - 1))
    return change if abs(change) >= _CHANGE else None


def _pairs(k):
    """Of k values in any order, 18 times the variance of how many more pairs rise than fall."""
    return k * (k - 1) * (2 * k + 5)


def outliers(values: list[float]) -> list[int]:
    """Indices of times far from the others, by the modified z-score of the logs (Iglewicz and Hoaglin 1993).

    A flag and no more: no interval here leaves a value out, and 1 in 8 simulated runs of 10 normal logs has one.
    """
    if not len(values):
        return []
    logs = np.log(values)
    off = np.abs(logs - np.median(logs))
    # Of normal values, half are nearer to the median than this quantile.
    return np.flatnonzero(off * special.ndtri(0.75) > _SCORE * np.median(off)).tolist()


def _means(runs: list[list[float]]) -> list[float]:
    return [fmean(values) for values in runs if len(values)]


def _within(values: list[float]) -> Mean:
    """Mean of one run's values, in the order of time, and a t interval that allows for autocorrelation.

    Values are taken for AR(1): n of them are worth n_eff = n (1 - r) / (1 + r) independent ones, clipped to [2, n]
    (Bayley and Hammersley 1946), and the variance of their mean is sum (x - mean)^2 / (n (n_eff - 1)).
    The lag-1 estimate r is too small by about (1 + 3 phi) / n (Marriott and Pope 1954), which is put right: at
    n = 10 it lifts the coverage from 86 to 91 % at phi = 0.5, from 67 to 83 % at 0.9, and from 96 to 97 % at 0.
    Fewer than 4 values tell nothing of r, which then counts as 0.
    """
    n = len(values)
    if n < 2:
        return independent(values)
    off = np.array(values) - np.mean(values)
    squares = off @ off
    r = (n * (off[1:] @ off[:-1]) / squares + 1) / (n - 3) if n > 3 and squares else 0.0
    r = min(max(r, 0.0), 1.0)
    worth = max(n * (1 - r) / (1 + r), 2.0)
    return Mean(float(np.mean(values)), float(squares / n / (worth - 1)), worth - 1)


def _over_runs(runs: list[list[float]]) -> Mean:
    return independent(_means(runs))


def _nested(runs: list[list[float]]) -> Mean:
    if len(_means(runs)) >= RUNS:
        return _over_runs(runs)
    parts = [_within(values) for values in runs if len(values)]
    return _combine(parts, np.full(len(parts), 1 / len(parts))) if parts else independent([])


def _combine(parts: list[Mean], weights: np.ndarray) -> Mean:
    """The weighted sum of independent means, its degrees of freedom after Welch and Satterthwaite."""
    means, variances, df = np.array(parts).T
    variances = weights**2 * variances
    total = float(variances.sum())
    return Mean(float(weights @ means), total, total**2 / float(np.sum(variances**2 / df)) if total else 1.0)


def _exp(interval: Interval) -> Interval:
    return Interval(*map(float, np.exp(interval)))
