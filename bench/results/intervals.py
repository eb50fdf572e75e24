"""Means, ratios and differences with 95 % intervals, and flags for odd times."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from statistics import fmean
from typing import Literal

import numpy as np
from scipy import special

from bench.results.statistics import CONFIDENCE, NOTHING, Interval, Mean, independent, t_interval, t_quantile

RUNS = 3
"""Least number of runs for an interval over runs; with fewer, the interval is within runs."""
_TREND, _CHANGE = 0.01, 0.02
_SCORE = 3.5
_DRAWS = 9999
"""Number of a bootstrap's draws."""


def runs_ci(runs: list[list[float]]) -> Interval:
    """Mean of run means with Student's t interval over them; runs without values do not count."""
    return t_interval(_over_runs(runs))


def nested_ci(runs: list[list[float]]) -> Interval:
    """Mean of run means of times; its interval is over runs if there are at least RUNS of them, else within runs.

    Times are positive, so the interval is cut at 0, like Fieller's, which does not change its coverage.
    """
    mean, low, high = t_interval(_nested(runs))
    return Interval(mean, 0.0 if low < 0 else low, high)


def paired_ratio(logs: list[list[float]], first: int | None = None) -> Interval:
    """Geometric mean ratio from each run's log-ratios of paired rounds; its interval is like `nested_ci`'s.

    Where the spread of the `first` runs decided the number of all, the interval is that of Stein's two stages.
    """
    means = _means(logs)
    return _exp(t_interval(_nested(logs) if first is None or len(means) < first else two_stage(means, first)))


def two_stage(values: list[float], first: int) -> Mean:
    """Mean of independent values whose number was decided by the variance of the `first` ones (Stein 1945).

    The variance is that of the first values alone. It is independent of the mean of all values whatever their number,
    so that the t interval keeps its coverage; one with the variance of all values loses some.
    """
    start = independent(values[:first])
    return Mean(fmean(values), start.variance * first / len(values), start.df)


def welch_ratio(a: list[list[float]], b: list[list[float]]) -> Interval:
    """Ratio of the geometric means of run means with Welch's interval on logs; the runs of a and b are independent.

    With a single run on either side, the estimate has no interval.
    """
    parts = [independent(np.log(_means(runs)).tolist()) for runs in (a, b)]
    return _exp(t_interval(_combine(parts, np.array([1, -1]))))


def welch_test(a: list[list[float]], b: list[list[float]]) -> float:
    """Two-sided p-value that two geometric means of run means are equal, by the same t as `welch_ratio`."""
    difference = _combine([independent(np.log(_means(runs)).tolist()) for runs in (a, b)], np.array([1, -1]))
    if not difference.variance:
        return 0.0 if difference.mean else 1.0
    return float(2 * special.stdtr(difference.df, -abs(difference.mean) / math.sqrt(difference.variance)))


def fieller_ratio(a: list[list[float]], b: list[list[float]]) -> Interval:
    """Ratio of the arithmetic means of run means with Fieller's interval; the runs of a and b are independent.

    The degrees of freedom are Satterthwaite's for mean(a) - ratio * mean(b) at the estimate. Times are positive, so the
    interval is cut at 0; where mean(b) does not differ significantly from 0, it has no upper end and high is inf.
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
    """Mean of the paired ratio over architectures; NOTHING where an architecture has no ratio.

    Architectures are a fixed set and their runs are independent: the variance is the sum of the variances of their
    log-ratios, each times the squared derivative of the log of the mean (delta method, exact for the geometric mean).
    The degrees of freedom are Satterthwaite's.
    """
    parts = [_nested(runs) for runs in logs]
    means = np.array([part.mean for part in parts])
    if not parts or np.isnan(means).any():
        return NOTHING
    weights = np.ones_like(means) if kind == "geometric" else np.exp(means)
    mean = means.mean() if kind == "geometric" else math.log(weights.mean())
    return _exp(t_interval(_combine(parts, weights / weights.sum())._replace(mean=mean)))


def mcnemar(a: Sequence[bool] | np.ndarray, b: Sequence[bool] | np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test that a and b, judged on the same images, are right equally often.

    Only images on which exactly one is right count (McNemar 1947); without such images p is 1.
    """
    only_a, only_b = (int(np.greater(*pair).sum()) for pair in ((a, b), (b, a)))
    # The binomial's tails are equal; twice one tail may exceed 1, because both include the middle.
    return min(1.0, 2 * _binomial_tail(min(only_a, only_b), only_a + only_b))


@cache
def _binomial_tail(k: int, n: int) -> float:
    """Probability of at most k heads of n fair coins."""
    return float(special.bdtr(k, n, 0.5))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same images, with the interval of the paired percentile bootstrap over images.

    The draws are seeded: equal values give equal intervals.
    """
    if len(a) < 2:
        return Interval(a[0] - b[0], math.nan, math.nan) if a else NOTHING
    return Interval(fmean(a) - fmean(b), *_middle(_resampled(tuple(a)) - _resampled(tuple(b))))


def _middle(draws: np.ndarray) -> tuple[float, float]:
    """Ends of the middle CONFIDENCE of the draws: those of np.quantile, in a third of its time.

    Each end is far out, so that sorting the draws beyond 1.5 standard deviations, of some of the draws, finds it.
    """
    mean, reach = draws[:1000].mean(), 1.5 * draws[:1000].std()
    low = _order_statistic(draws, draws[draws < mean - reach], 0, (1 - CONFIDENCE) / 2)
    above = draws[draws > mean + reach]
    return low, _order_statistic(draws, above, len(draws) - len(above), (1 + CONFIDENCE) / 2)


def _order_statistic(draws: np.ndarray, tail: np.ndarray, first: int, share: float) -> float:
    """Quantile, interpolated linearly, from a tail that begins at rank `first`; from all draws if it lies elsewhere."""
    position = share * (len(draws) - 1)
    k = int(position)
    if not first <= k < first + len(tail) - 1:
        tail, first = draws, 0
    below, above = np.partition(tail, (k - first, k + 1 - first))[k - first : k + 2 - first]
    weight, step = position - k, above - below
    return float(above - step * (1 - weight) if weight >= 0.5 else below + step * weight)


@lru_cache(maxsize=1024)
def _resampled(values: tuple[float, ...]) -> np.ndarray:
    """Mean of each of _DRAWS resamples of these values; cached, since one network is compared with many."""
    counts, blocks = _counts(len(values)), range(0, _DRAWS, 500)
    return np.concatenate([counts[k : k + 500].astype(float) @ values for k in blocks]) / len(values)


@lru_cache(maxsize=1)
def _counts(n: int) -> np.ndarray:
    """Counts (_DRAWS, n) of each of n images in each draw; networks share the draws, which pairs them."""
    random = np.random.default_rng(0)
    counts = np.empty((_DRAWS, n), np.uint8)
    for row in counts:
        row[:] = np.bincount(random.integers(0, n, n), minlength=n)
    return counts


def drift(values: list[float]) -> float | None:
    """Relative change over a run's times if they have a significant and notable trend, else None.

    The test is Mann's and Kendall's: the number of rising minus falling pairs against the normal distribution, with
    corrections for continuity and ties (Kendall 1975). The change is that of the Theil-Sen line through the logs from
    the first value to the last. Autocorrelation resembles a trend: of 4,000 simulated runs of 10 epochs without a
    trend, 0.3, 4.5 and 19 % are flagged at phi = 0, 0.5 and 0.9.
    """
    n, logs = len(values), np.log(values)
    earlier, later = np.triu_indices(n, 1)
    rise = logs[later] - logs[earlier]
    ties = np.unique(logs, return_counts=True)[1]
    variance = (_pairs(n) - _pairs(ties).sum()) / 18
    if abs(np.sign(rise).sum()) - 1 <= special.ndtri(1 - _TREND / 2) * math.sqrt(variance):
        return None
    change = math.expm1(np.median(rise / (later - earlier)) * (n - 1))
    return change if abs(change) >= _CHANGE else None


def _pairs(k):
    """18 times the variance of the number of rising minus falling pairs among k randomly ordered values."""
    return k * (k - 1) * (2 * k + 5)


def outliers(values: list[float]) -> list[int]:
    """Indices of outlying times by the modified z-score of the logs (Iglewicz and Hoaglin 1993).

    They are only flagged: no interval here excludes a value. 1 in 8 simulated runs of 10 normal logs has an outlier.
    """
    if not len(values):
        return []
    logs = np.log(values)
    off = np.abs(logs - np.median(logs))
    # Half of all normal values are nearer to the median than this quantile.
    return np.flatnonzero(off * special.ndtri(0.75) > _SCORE * np.median(off)).tolist()


def _means(runs: list[list[float]]) -> list[float]:
    return [fmean(values) for values in runs if len(values)]


def _within(values: list[float]) -> Mean:
    """Mean of one run's values in temporal order, with a variance that accounts for autocorrelation.

    The model is AR(1): n values correspond to n_eff = n (1 - r) / (1 + r) independent ones, clipped to [2, n]
    (Bayley and Hammersley 1946), and the variance of their mean is sum (x - mean)^2 / (n (n_eff - 1)).
    The lag-1 estimate r is too small by about (1 + 3 phi) / n (Marriott and Pope 1954) and is corrected for it: at
    n = 10 the correction raises the coverage from 86 to 91 % at phi = 0.5, from 67 to 83 % at 0.9, and from 96 to
    97 % at 0. Fewer than 4 values do not determine r, which is then 0.
    """
    n = len(values)
    if n < 2:
        return independent(values)
    off = np.array(values) - np.mean(values)
    squares = off @ off
    r = (n * (off[1:] @ off[:-1]) / squares + 1) / (n - 3) if n > 3 and squares else 0.0
    r = min(max(r, 0.0), 1.0)
    n_eff = max(n * (1 - r) / (1 + r), 2.0)
    return Mean(float(np.mean(values)), float(squares / n / (n_eff - 1)), n_eff - 1)


def _over_runs(runs: list[list[float]]) -> Mean:
    return independent(_means(runs))


def _nested(runs: list[list[float]]) -> Mean:
    if len(_means(runs)) >= RUNS:
        return _over_runs(runs)
    parts = [_within(values) for values in runs if len(values)]
    return _combine(parts, np.full(len(parts), 1 / len(parts))) if parts else independent([])


def _combine(parts: list[Mean], weights: np.ndarray) -> Mean:
    """Weighted sum of independent means, with the degrees of freedom of Welch and Satterthwaite."""
    means, variances, df = np.array(parts).T
    variances = weights**2 * variances
    total = float(variances.sum())
    return Mean(float(weights @ means), total, total**2 / float(np.sum(variances**2 / df)) if total else 1.0)


def _exp(interval: Interval) -> Interval:
    return Interval(*map(float, np.exp(interval)))
