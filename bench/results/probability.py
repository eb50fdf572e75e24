"""Groups of images by p, the probability that noise leaves the class of a smoothed network."""

from collections.abc import Callable, Mapping

from bench.records import Verdict
from bench.results.contenders import Contender
from bench.results.judging import judging
from bench.results.robustness import kind, right


def probability(verdict: Verdict) -> float | None:
    """Estimate of p: share of the counted draws that give the class; None without counts.

    It is the plain share, not the lower bound that the radius is made from: the bound rises with the number of draws,
    and most for the easiest images.
    """
    n, counted = verdict.details.get("n"), verdict.details.get("nA")
    return counted / n if n and counted is not None else None


def _between(low: float, high: float) -> Callable[[Verdict], bool]:
    def inside(verdict: Verdict) -> bool:
        p = probability(verdict)
        return right(verdict) and p is not None and low <= p < high

    return inside


# The radius is sigma times the normal quantile of p: 1.28 sigma at 0.9 and 2.33 sigma at 0.99. From 0.99 on it is more
# and more the number of draws that limits the radius; 1,000 draws still tell 0.99 from 1, but hardly 0.999. Groups that
# exclude one another show what a mean of radii hides: gains for images that are easy already, and losses of others.
GROUPS: dict[str, Callable[[Verdict], bool]] = {
    "wrong": lambda verdict: verdict.prediction not in (-1, verdict.label),
    "abstained": lambda verdict: verdict.prediction == -1,
    "below_90": _between(0, 0.9),
    "from_90_to_99": _between(0.9, 0.99),
    "from_99": _between(0.99, 2),
}
"""Groups of evaluated images, each image in exactly one: another class, no class, and the right one by its p."""


def verdicts_by_seed(contender: Contender) -> dict[int, Mapping[int, Verdict]]:
    """Verdicts by seed and image of a contender that is judged by smoothing; empty for others."""
    specs = {seed: judging(m.cell) for seed, m in contender.by_seed.items()}
    found = {
        seed: contender.by_seed[seed].verdicts.get(spec.id)
        for seed, spec in specs.items()
        if spec and kind(spec.name) == "smoothing"
    }
    return {seed: verdicts for seed, verdicts in found.items() if verdicts}


def has_counts(verdicts: Mapping[int, Verdict]) -> bool:
    """True if p is known for every image with a right class."""
    return all(probability(verdict) is not None for verdict in verdicts.values() if right(verdict))
