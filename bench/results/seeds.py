"""Means and differences over the seeds of a method and the images that it is evaluated on, with 95 % intervals.

The quantity is an expectation over both: over the seeds that one may train with, and over the images that one may draw.
Arrays have the shape (..., S, N) of S seeds and N images, each at least 2; leading dimensions are independent studies.

Seeds and images are crossed random effects with one value a cell: value = mean + seed + image + residual. By the mean
squares MS of the two-way analysis of variance, the variance of the mean is (MS_seed + MS_image - MS_residual) / (S N)
(Searle, Casella and McCulloch 1992). MS_seed has only S - 1 degrees of freedom, the rest as good as infinitely many.
The quantile is the mean of Student's and the normal one, weighted by the two parts of the variance (Cochran 1964): with
two or three seeds it covers better than Satterthwaite's degrees of freedom. `reports/published/seeds.md` shows the
coverage.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from bench.results.statistics import CONFIDENCE

_SMALLEST = 1e-15
"""Smallest p-value that is computed."""


class Parts(NamedTuple):
    """A mean and the parts of its variance, as arrays over studies."""

    mean: np.ndarray
    seeds: np.ndarray
    """Variance from seeds and residuals, with `df` degrees of freedom."""
    df: np.ndarray
    images: np.ndarray
    """Variance from the images, which all seeds share."""
    n: int
    """Number of images."""


def crossed(values: np.ndarray, step: float = 0.0) -> Parts:
    """Mean of the values, which are multiples of `step`: 1 for shares, 0 for radii."""
    images = values.shape[-1]
    shared = np.maximum(values.mean(-2).var(-1, ddof=1) / images - _residual(values), 0)
    parts = alone(values.mean(-1), images, step)
    # half_width has its own interval where no value differs from another.
    return parts._replace(seeds=np.where(np.ptp(values, axis=(-2, -1)) > 0, parts.seeds, 0), images=shared)


def unpaired(first: np.ndarray, second: np.ndarray, step: float = 0.0) -> Parts:
    """Difference of two means on the same images, (..., S, N) and (..., T, N), whose seeds are independent."""
    images = first.shape[-1]
    shared = (first.mean(-2) - second.mean(-2)).var(-1, ddof=1) / images - _residual(first) - _residual(second)
    parts = less(*(crossed(values, step) for values in (first, second)))
    return parts._replace(images=np.maximum(shared, 0))


def alone(means: np.ndarray, images: int, step: float = 0.0) -> Parts:
    """Mean of the means (..., S) of seeds which share no images, each of `images` multiples of `step`.

    The variance between seeds is at least that of rounding a mean to the next multiple of step / images: few seeds may
    have equal means by chance.
    """
    seeds = means.shape[-1]
    variance = np.maximum(means.var(-1, ddof=1), (step / images) ** 2 / 12) / seeds
    return Parts(means.mean(-1), variance, np.full_like(variance, seeds - 1), np.zeros_like(variance), images)


def less(first: Parts, second: Parts) -> Parts:
    """Difference of two independent means, with the degrees of freedom of Welch and Satterthwaite for the seeds."""
    seeds, images = first.seeds + second.seeds, first.images + second.images
    some = seeds > 0
    weighted = np.where(some, first.seeds**2 / first.df + second.seeds**2 / second.df, 1)
    df = np.where(some, seeds**2 / weighted, np.minimum(first.df, second.df))
    return Parts(first.mean - second.mean, seeds, df, images, min(first.n, second.n))


def _residual(values: np.ndarray) -> np.ndarray:
    """Variance of the mean from residuals: MS_residual / (S N)."""
    seeds, images = values.shape[-2:]
    off = values - values.mean(-1)[..., None] - values.mean(-2)[..., None, :] + values.mean((-2, -1))[..., None, None]
    return (off**2).mean((-2, -1)) / ((seeds - 1) * (images - 1))


def half_width(parts: Parts, p: np.ndarray | float = 1 - CONFIDENCE) -> np.ndarray:
    """Distance from the mean to the ends of its interval of confidence 1 - p.

    At other confidences than 95 % the width changes as that of Howe's interval (1974), whose square is the sum of the
    squared widths of both parts: far out, Cochran's weights give too narrow intervals, so that with two seeds Holm's
    correction would find a difference between 6 equal methods in 14 % of studies. Shares of which no value differs from
    another get the width of Wilson's interval of 0 or 1.
    """
    return _half_widths(parts)(p)


def _half_widths(parts: Parts) -> Callable[[np.ndarray | float], np.ndarray]:
    """Half widths as a function of p; what does not depend on p is computed once."""
    t, z = _quantiles(parts, 1 - CONFIDENCE)
    variance = parts.seeds + parts.images
    some = variance > 0
    half = (parts.seeds * t + parts.images * z) / np.sqrt(np.where(some, variance, 1))

    def howe(t: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.sqrt(np.where(some, parts.seeds * t**2 + parts.images * z**2, 1))

    reference = howe(t, z)

    def at(p: np.ndarray | float) -> np.ndarray:
        t, z = _quantiles(parts, p)
        return np.where(some, half * howe(t, z) / reference, z**2 / (parts.n + z**2))

    return at


def _quantiles(parts: Parts, p: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Student's and the normal quantile that a value exceeds, in either direction, with probability p."""
    return -special.stdtrit(parts.df, np.divide(p, 2)), -special.ndtri(np.divide(p, 2))


def ends(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of a mean or a difference."""
    half = half_width(parts)
    return parts.mean - half, parts.mean + half


def share_ends(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of a share, which lie within [0, 1] and suit shares near 0 and 1.

    This is Wilson's score interval of p with half_width^2 / (p (1 - p)) for z^2 / n, as surveys with clusters use it
    (Franco, Little, Louis and Slud 2019).
    """
    p, half = parts.mean, half_width(parts)
    spread = p * (1 - p)
    z = -special.ndtri((1 - CONFIDENCE) / 2)
    ratio = np.where(spread > 0, half**2 / np.where(spread > 0, spread, 1), z**2 / parts.n)
    middle = (p + ratio / 2) / (1 + ratio)
    reach = np.sqrt(np.where(spread > 0, half**2, 0) + ratio**2 / 4) / (1 + ratio)
    return np.clip(middle - reach, 0, p), np.clip(middle + reach, p, 1)


def p_value(parts: Parts) -> np.ndarray:
    """Two-sided p-value of a difference of shares: the p at which an interval of confidence 1 - p ends at 0."""
    low, high = np.full(parts.mean.shape, np.log(_SMALLEST)), np.zeros(parts.mean.shape)
    widths = _half_widths(parts)
    for _ in range(50):
        middle = (low + high) / 2
        wide = widths(np.exp(middle)) > np.abs(parts.mean)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(parts.mean == 0, 1.0, np.exp(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): those below 0.05 are wrong together in at most 5 % of studies.

    The k-th smallest of m is multiplied by m - k + 1, and is at least the one before it and at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(order) - np.arange(len(order))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values, float)[order]), 1)
    return adjusted.tolist()
