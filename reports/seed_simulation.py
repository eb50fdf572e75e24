"""Simulated coverage of the intervals over seeds and images of bench.results.seeds."""

from itertools import combinations

import numpy as np
from scipy import special

from bench.results.intervals import mcnemar
from bench.results.seeds import Parts, alone, crossed, ends, holm, p_value, share_ends, unpaired
from bench.results.statistics import CONFIDENCE, share_difference, wilson
from reports.seed_model import Case, draw, truth

SEED = 19
METHODS = 6
"""Number of equal methods that are compared in all pairs."""
_CELLS = 4_000_000
"""Largest number of values that are drawn at once."""
Ways = dict[str, tuple[np.ndarray, np.ndarray]]
"""Ends of the intervals of many studies, by the name of the interval."""


def simulate(case: Case, seeds: int, studies: int, key: int) -> list[dict]:
    """A row per interval: its coverage with Wilson's interval, and its median width; `key` seeds the draws."""
    rng = np.random.default_rng([SEED, key, seeds])
    true = truth(case, case.share) - (0.0 if case.other is None else truth(case, case.other))
    block = max(1, _CELLS // (seeds * case.images))
    held: dict[str, list[np.ndarray]] = {}
    widths: dict[str, list[np.ndarray]] = {}
    for first in range(0, studies, block):
        for name, (low, high) in _ways(case, draw(rng, case, seeds, min(block, studies - first))).items():
            held.setdefault(name, []).append((low <= true) & (true <= high))
            widths.setdefault(name, []).append(high - low)
    return [
        _row(case, name, seeds, np.concatenate(held[name])) | {"width": float(np.median(np.concatenate(widths[name])))}
        for name in held
    ]


def families(case: Case, seeds: int, studies: int) -> list[dict]:
    """Rows of the share of studies that find no difference in any pair of equal methods, as they should."""
    rng = np.random.default_rng([SEED, METHODS, seeds])
    found: dict[str, list[bool]] = {}
    for _ in range(studies):
        images = rng.normal(size=(1, 1, case.images))
        tables = [draw(rng, case, seeds, 1, images)[0][0] for _ in range(METHODS)]
        pairs = list(combinations(tables, 2))
        p_values = p_value(crossed(np.stack([a - b for a, b in pairs]), 1)).tolist()
        for name, values in (
            ("every pair at 5 %", p_values),
            ("Holm over all pairs", holm(p_values)),
            ("naive: one seed, every pair at 5 %", single := [mcnemar(a[0] > 0, b[0] > 0) for a, b in pairs]),
            ("naive: one seed, Holm over all pairs", holm(single)),
        ):
            found.setdefault(name, []).append(min(values) >= 1 - CONFIDENCE)
    return [_row(case, name, seeds, np.array(right)) for name, right in found.items()]


def _row(case: Case, name: str, seeds: int, held: np.ndarray) -> dict:
    coverage = wilson(int(held.sum()), len(held))
    row = {"case": case.label, "images": case.images, "interval": name, "seeds": seeds, "studies": len(held)}
    return row | {"coverage": coverage.mean, "coverage_low": coverage.low, "coverage_high": coverage.high}


def _ways(case: Case, values: list[np.ndarray]) -> Ways:
    if case.other is not None:
        return difference_ways(*values)
    ways = mean_ways(values[0], share=case.kind != "radii")
    return ways | ({"any distribution": any_distribution(values[0])} if case.kind == "collapse" else {})


def mean_ways(values: np.ndarray, share: bool = True) -> Ways:
    """Intervals of the mean of one method: this project's, and those that others use."""
    seeds, images = values.shape[-2:]
    by_seed, parts = values.mean(-1), crossed(values, float(share))
    naive = ends(alone(by_seed, images))
    ways = {"seeds x images": (share_ends if share else ends)(parts), "naive: t over seeds": naive}
    if share:
        low, high = _wilson(by_seed, images)
        ways |= {
            "naive: Wilson of one seed": (low[:, 0], high[:, 0]),
            "naive: Wilson, seeds pooled": _wilson(parts.mean, seeds * images),
            "former: the wider of Wilson and t": (
                np.minimum(naive[0], low.mean(1)),
                np.maximum(naive[1], high.mean(1)),
            ),
        }
    return ways | {"Satterthwaite": _satterthwaite(values)}


def any_distribution(values: np.ndarray, draws: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Gaffke's interval (2005) of the mean of the seeds' shares, which assumes nothing but that they lie in [0, 1]."""
    shares = values.mean(-1)
    uniform = np.sort(np.random.default_rng(0).random((draws, shares.shape[-1])), axis=-1)

    def upper(x: np.ndarray) -> np.ndarray:
        steps = np.diff(np.sort(x, axis=-1), axis=-1, append=1.0)
        return np.quantile(1 - steps @ uniform.T, 0.975, axis=-1)

    return 1 - upper(1 - shares), upper(shares)


def difference_ways(first: np.ndarray, second: np.ndarray) -> Ways:
    """Intervals of the difference of two methods."""
    gaps = first - second
    naive = _within(*ends(alone(gaps.mean(-1), gaps.shape[-1])))
    flags = list(zip(first > 0, second > 0, strict=True))
    by_seed = [[share_difference(*pair)[1:] for pair in zip(a, b, strict=True)] for a, b in flags]
    low, high = np.moveaxis(np.array(by_seed), -1, 0)
    pooled = np.array([share_difference(a.ravel(), b.ravel())[1:] for a, b in flags]).T
    return {
        "paired by seed and image": _within(*ends(crossed(gaps, 1))),
        "paired by image (Welch)": _within(*ends(unpaired(first, second, 1))),
        "naive: t over seeds": naive,
        "naive: Newcombe of one seed": (low[:, 0], high[:, 0]),
        "naive: Newcombe, seeds pooled": (pooled[0], pooled[1]),
        "former: the wider of Newcombe and t": (np.minimum(naive[0], low.mean(1)), np.maximum(naive[1], high.mean(1))),
    }


def _within(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends, cut to the range of a difference of two shares."""
    return np.maximum(low, -1), np.minimum(high, 1)


def _wilson(shares: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's intervals: those of shares whose variance is that of independent images."""
    none = np.zeros_like(shares)
    return share_ends(Parts(shares, none, none + 1, shares * (1 - shares) / images, images))


def _satterthwaite(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same variance with Satterthwaite's degrees of freedom, at least those of the seeds."""
    parts = crossed(values)
    total = parts.seeds + parts.images
    df = np.where(parts.seeds > 0, parts.df * (total / np.where(parts.seeds > 0, parts.seeds, 1)) ** 2, 1e6)
    half = -special.stdtrit(df, 0.025) * np.sqrt(total)
    return parts.mean - half, parts.mean + half
