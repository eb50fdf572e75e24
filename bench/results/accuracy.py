"""Accuracy, certified accuracy and average certified radius (ACR) of evaluated images."""

import math
from collections.abc import Iterable

import numpy as np

from bench.results.statistics import Interval, mean_ci, wilson

RADIUS_STEP = 0.25
"""Distance between the radii at which tables show certified accuracy."""


def radius_text(radius: float) -> str:
    """A radius with two decimals, or with as many as it has."""
    return max(f"{radius:.2f}", f"{radius:.12f}".rstrip("0"), key=len)


def share(correct: Iterable[bool]) -> Interval:
    """Share of images that are correct, with Wilson's interval."""
    correct = list(correct)
    return wilson(sum(correct), len(correct))


def certified_radii(images: Iterable[tuple[bool, float]]) -> np.ndarray:
    """Radii (images,) from pairs of correctness and radius; -1 where the class is wrong."""
    return np.array([radius if correct else -1.0 for correct, radius in images])


def certified_accuracy(radii: np.ndarray, radius: float) -> Interval:
    """Share of `certified_radii` of at least `radius`, with Wilson's interval."""
    return wilson(int((radii >= radius).sum()), len(radii))


def average_certified_radius(radii: np.ndarray) -> Interval:
    """Mean of `certified_radii` (ACR), with 0 where the class is wrong; no interval where all radii are equal."""
    mean = mean_ci(list(radii.clip(0)))
    # Equal radii say nothing about the variation of others.
    return mean if len(set(radii.clip(0))) > 1 else Interval(mean.mean, math.nan, math.nan)
