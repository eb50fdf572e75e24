"""The Pareto front of cost and robustness, and how often each method is on it when seeds, images and times vary."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bench.results.contenders import Contender, Setting
from bench.results.statistics import CONFIDENCE, Interval, normal_quantile

DRAWS = 2000
_BLOCK = 100
"""Draws at a time, which bounds the memory."""


def pareto(cost: np.ndarray | Sequence[float], value: np.ndarray | Sequence[float]) -> np.ndarray:
    """Mask (..., K) of the points that no other dominates, by at most their cost and at least their value.

    One of the two must be strict: points with equal cost and value do not dominate each other.
    """
    c, v = np.asarray(cost, float), np.asarray(value, float)
    no_worse = (c[..., :, None] <= c[..., None, :]) & (v[..., :, None] >= v[..., None, :])
    better = (c[..., :, None] < c[..., None, :]) | (v[..., :, None] > v[..., None, :])
    return np.logical_not((no_worse & better).any(axis=-2))


def front_frequencies(setting: Setting, costs: Mapping[Contender, Interval] | None = None) -> dict[Contender, float]:
    """Share of bootstrap draws in which each judged and timed method is on the front; empty with fewer than two.

    Without `costs`, they are those of whole trainings relative to the first method.
    """
    first = next(iter(setting.judged), None)
    if first is None:
        return {}
    costs = costs or {each: setting.cost(each, first) for each in setting.judged}
    timed = [each for each in setting.judged if not math.isnan(costs[each].mean)]
    images = sorted(set.intersection(*(set(own) for each in timed for own in each.robust.values())) if timed else ())
    if len(timed) < 2 or not images:
        return {}
    tables = [
        np.array([[each.robust[seed][image] for image in images] for seed in sorted(each.robust)], float)
        for each in timed
    ]
    paired = len({tuple(sorted(each.robust)) for each in timed}) == 1
    random = np.random.default_rng(0)
    drawn = pareto(drawn_costs([costs[each] for each in timed], random), drawn_means(tables, paired, random))
    return dict(zip(timed, drawn.mean(0).tolist(), strict=True))


def drawn_means(
    tables: Sequence[np.ndarray], paired: bool, random: np.random.Generator, draws: int = DRAWS
) -> np.ndarray:
    """Bootstrap means (draws, K) of K tables (S, N) of S seeds and N common images.

    Images are drawn for all tables together, and so are seeds if the tables are `paired`. Of S seeds, S - 1 are drawn,
    so that the variance between seeds is not too small by the factor (S - 1) / S (Rao and Wu 1988).
    """
    blocks = [min(_BLOCK, draws - start) for start in range(0, draws, _BLOCK)]
    return np.concatenate([_block(tables, paired, random, size) for size in blocks])


def _block(tables: Sequence[np.ndarray], paired: bool, random: np.random.Generator, size: int) -> np.ndarray:
    images = tables[0].shape[1]
    counts = random.multinomial(images, np.full(images, 1 / images), size).astype(float)
    means, chosen = [], None
    for table in tables:
        seeds = len(table)
        if chosen is None or not paired:
            chosen = random.integers(0, seeds, (size, max(seeds - 1, 1)))
        means.append((counts * table[chosen].mean(1)).sum(1) / images)
    return np.stack(means, axis=1)


def drawn_costs(costs: Sequence[Interval], random: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Costs (draws, K), normal on the logarithm with the width of their intervals; constant where there is none."""
    means = np.log([cost.mean for cost in costs])
    widths = [0.0 if math.isnan(cost.low) else math.log(cost.high / cost.low) / 2 for cost in costs]
    return np.exp(means + random.normal(size=(draws, len(costs))) * np.array(widths) / normal_quantile(CONFIDENCE))
