"""Power of the comparison of two methods: the number of seeds that shows a stated difference of their accuracies.

The comparison is that of bench.results.seeds: paired by seed and image, its p-value adjusted for all pairs of a
setting. A pair that Holm's method tests alone against 5 % needs fewer seeds, so the numbers here are upper bounds.
"""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy import special

from bench.results.over_seeds import Values, paired_parts
from bench.results.seeds import Parts, half_width
from bench.results.statistics import CONFIDENCE

POWER = 0.8
"""Probability of showing the difference; the convention of Cohen (1988)."""
MOST = 100
"""Largest number of seeds that is considered."""


class Spread(NamedTuple):
    """Variances of the difference of two methods."""

    seeds: float
    """Variance of the difference of one seed's accuracies on the same images."""
    images: float
    """Variance of an image's difference, averaged over seeds."""


ASSUMED = Spread(seeds=2 * 0.01**2, images=0.1)
"""An accuracy varies by 1 point (sd) between seeds, and one image in ten tells two methods apart over all seeds."""


def spread(first: Values, second: Values) -> Spread | None:
    """Variances by records; None unless both methods have two or more seeds, the same ones, and common images."""
    if len(first) < 2 or first.keys() != second.keys() or (parts := paired_parts(first, second)) is None:
        return None
    return Spread(float(parts.seeds) * len(first), float(parts.images) * parts.n)


def power(difference: float, spread: Spread, seeds: int, images: int, pairs: int = 1) -> float:
    """Probability that `pairs` comparisons of so many seeds and images show a difference of this one.

    The estimated variance of the seeds varies as chi squared over its degrees of freedom does; the mean over its
    quantiles is taken.
    """
    chance = (np.arange(400) + 0.5) / 400
    estimated = spread.seeds / seeds * special.chdtri(seeds - 1, 1 - chance) / (seeds - 1)
    fixed = np.full_like(estimated, spread.images / images)
    parts = Parts(np.full_like(estimated, difference), estimated, np.full_like(estimated, seeds - 1), fixed, images)
    sd = np.sqrt(spread.seeds / seeds + spread.images / images)
    needed = half_width(parts, (1 - CONFIDENCE) / pairs)
    return float(special.ndtr((difference - needed) / sd).mean() if sd else (difference > needed).mean())


def seeds_needed(difference: float, spread: Spread, images: int, pairs: int = 1) -> int | None:
    """Smallest number of seeds, two at least, with a power of POWER; None where MOST seeds have less."""
    enough = (seeds for seeds in range(2, MOST + 1) if power(difference, spread, seeds, images, pairs) >= POWER)
    return next(enough, None)


def images_needed(difference: float, spread: Spread, pairs: int = 1) -> int:
    """Number of images, to two digits, with which MOST seeds have a power of POWER."""
    low, high = 1, 2
    while power(difference, spread, MOST, high, pairs) < POWER:
        low, high = high, 2 * high
    while high - low > high // 50:
        middle = (low + high) // 2
        low, high = (middle, high) if power(difference, spread, MOST, middle, pairs) < POWER else (low, middle)
    return high


def typical(spreads: Iterable[Spread]) -> Spread:
    """The median of each variance."""
    seeds, images = zip(*spreads, strict=True)
    return Spread(median(seeds), median(images))
