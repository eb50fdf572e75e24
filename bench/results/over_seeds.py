"""Estimates of a method over its seeds, from values by seed and image, each with the name of its interval."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np

from bench.results.intervals import mcnemar, paired_difference
from bench.results.seeds import Parts, alone, crossed, ends, less, p_value, share_ends, unpaired
from bench.results.statistics import CONFIDENCE, NOTHING, Interval, mean_ci, share_difference, wilson

Values = Mapping[int, Mapping[int, float]]
"""Values by seed and image: True or False of a share, else numbers such as radii."""
_COLLAPSE = {2: 0.75, 3: 0.64, 4: 0.63, 5: 0.68, 6: 0.73, 7: 0.78, 8: 0.82, 9: 0.87, 10: 0.89, 20: 0.93}
"""Coverage by number of seeds where one in five trainings collapses, as simulated in reports/published/seeds.csv."""


class OverSeeds(NamedTuple):
    """An estimate over seeds and images."""

    interval: Interval = NOTHING
    sd: float = math.nan
    """Standard deviation of the seeds' estimates; NaN for one seed, and where two methods have different seeds."""
    seeds: int = 0
    """Number of seeds; for two methods with different seeds, the smaller number."""
    images: int = 0
    """Number of images that all seeds share; where they share none, the smallest number of a seed."""
    made: str = ""
    """Name of the interval, as observations have it."""
    p: float = math.nan
    """P-value of the hypothesis that a difference of shares is 0."""


def mean_over_seeds(values: Values, share: bool = True) -> OverSeeds:
    """Mean over seeds and images of a share, or of radii; the interval of one seed is over its images alone."""
    if len(values) < 2:
        return _of_one(list(next(iter(values.values())).values()), share) if values else OverSeeds()
    images, step = _common(values.values()), float(share)
    if len(images) < 2:
        means, count = _means(values), min(map(len, values.values()))
        parts, made = alone(means, count, step), "t over seeds"
    else:
        table = _table(values, images)
        means, count = table.mean(-1), len(images)
        parts, made = crossed(table, step), f"{'score' if share else 't'} over seeds and images"
    low, high = (share_ends if share else ends)(parts)
    return OverSeeds(_interval(parts, low, high, share), float(means.std(ddof=1)), len(values), count, made)


def difference_over_seeds(first: Values, second: Values, share: bool = True) -> OverSeeds:
    """Difference of two means over seeds and images.

    Methods with the same seeds are paired by seed and image, others by image. Where a method has one seed, the interval
    is over the images of one training each, of a common seed if there is one.
    """
    if not first or not second:
        return OverSeeds()
    if min(len(first), len(second)) < 2:
        common = min(first.keys() & second.keys(), default=None)
        a, b = (own[min(own) if common is None else common] for own in (first, second))
        return _of_two(a, b, share)
    images = _common([*first.values(), *second.values()])
    count, sd, step = len(images), math.nan, float(share)
    if count < 2:
        count = min(map(len, (*first.values(), *second.values())))
        parts, made = less(*(alone(_means(own), count, step) for own in (first, second))), "Welch t over seeds"
    else:
        tables = [_table(own, images) for own in (first, second)]
        if first.keys() == second.keys():
            gaps = tables[0] - tables[1]
            parts, made, sd = crossed(gaps, step), "paired t over seeds and images", float(gaps.mean(-1).std(ddof=1))
        else:
            parts, made = unpaired(tables[0], tables[1], step), "Welch t over seeds and images"
    low, high = np.clip(ends(parts), -1, 1) if share else ends(parts)
    interval, seeds = _interval(parts, low, high, share), min(len(first), len(second))
    return OverSeeds(interval, sd, seeds, count, made, float(p_value(parts)) if share else math.nan)


def shown_alone(first: Values, second: Values) -> int:
    """Number of common seeds whose images alone show a difference of two shares: McNemar's p is below 0.05."""
    own = [_of_two(first[seed], second[seed], share=True) for seed in first.keys() & second.keys()]
    return sum(each.p < 1 - CONFIDENCE for each in own)


def paired_parts(first: Values, second: Values) -> Parts | None:
    """Mean difference of two methods with the same seeds and its variances; None without two common images."""
    images = _common([*first.values(), *second.values()])
    if len(images) < 2:
        return None
    return crossed(_table(first, images) - _table(second, images), 1)


def collapse_coverage(seeds: int) -> float | None:
    """Simulated coverage with so many seeds where one in five trainings collapses; None for one seed and for many."""
    if seeds < min(_COLLAPSE) or seeds >= max(_COLLAPSE):
        return None
    return _COLLAPSE[max(count for count in _COLLAPSE if count <= seeds)]


def _of_one(values: list[float], share: bool) -> OverSeeds:
    if share:
        return OverSeeds(wilson(int(sum(values)), len(values)), seeds=1, images=len(values), made="Wilson")
    mean = mean_ci(values)
    # Equal radii say nothing of the variation of others.
    interval = mean if len(set(values)) > 1 else Interval(mean.mean, math.nan, math.nan)
    return OverSeeds(interval, seeds=1, images=len(values), made="t over images")


def _of_two(first: Mapping[int, float], second: Mapping[int, float], share: bool) -> OverSeeds:
    """Difference of two trainings on their common images."""
    images = sorted(first.keys() & second.keys())
    if not images:
        return OverSeeds()
    a, b = ([own[image] for image in images] for own in (first, second))
    if not share:
        return OverSeeds(paired_difference(a, b), seeds=1, images=len(images), made="paired bootstrap")
    flags = np.array(a, bool), np.array(b, bool)
    return OverSeeds(share_difference(*flags), seeds=1, images=len(images), made="Newcombe", p=mcnemar(*flags))


def _common(trainings: Iterable[Mapping[int, float]]) -> list[int]:
    """Images that all trainings were evaluated on, ascending."""
    return sorted(set.intersection(*(set(own) for own in trainings)))


def _table(values: Values, images: list[int]) -> np.ndarray:
    """Values (seeds, images) of these images, the seeds ascending."""
    return np.array([[values[seed][image] for image in images] for seed in sorted(values)], float)


def _means(values: Values) -> np.ndarray:
    return np.array([fmean(own.values()) for own in values.values()])


def _interval(parts: Parts, low: np.ndarray, high: np.ndarray, share: bool) -> Interval:
    """An interval of floats; radii without variation have none."""
    if not share and not parts.seeds + parts.images > 0:
        return Interval(float(parts.mean), math.nan, math.nan)
    return Interval(float(parts.mean), float(low), float(high))
