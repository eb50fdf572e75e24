"""Groups of images by p, the probability that noise leaves the class of a smoothed network."""

from bench.records import Verdict
from bench.results.contenders import Contender
from bench.results.judging import judging
from bench.results.robustness import grid, kind, right


def probability(verdict: Verdict) -> float | None:
    """Estimate of p: share of the counted draws that give the class; None without counts.

    It is the plain share, not the lower bound that the radius is made from: the bound rises with the number of draws,
    and most for the easiest images.
    """
    n, counted = verdict.details.get("n"), verdict.details.get("nA")
    return counted / n if n and counted is not None else None


# The radius is sigma times the normal quantile of p: 1.28 sigma at 0.9 and 2.33 sigma at 0.99. From 0.99 on it is more
# and more the number of draws that limits the radius; 1,000 draws still tell 0.99 from 1, but hardly 0.999. Groups that
# exclude one another show what a mean of radii hides: gains for images that are easy already, and losses of others.
GROUPS = ("wrong", "abstained", "below_90", "from_90_to_99", "from_99")
"""Groups of evaluated images, each image in exactly one: another class, no class, and the right one by its p."""


def group(verdict: Verdict) -> str | None:
    """The group of an image; None for one with a right class whose draws were not counted."""
    if verdict.prediction == -1:
        return "abstained"
    if not right(verdict):
        return "wrong"
    p = probability(verdict)
    if p is None:
        return None
    return "below_90" if p < 0.9 else "from_90_to_99" if p < 0.99 else "from_99"


def groups_by_seed(contender: Contender) -> dict[int, dict[int, str | None]]:
    """Groups by seed and image of a contender that is judged by smoothing; empty for others.

    Draws of a grid end by what they show, so that their share of hits is no estimate of p.
    """
    specs = {seed: judging(m.cell) for seed, m in contender.by_seed.items()}
    return {
        seed: {image: group(verdict) for image, verdict in verdicts.items()}
        for seed, spec in specs.items()
        if spec and kind(spec.name) == "smoothing" and not grid(spec)
        if (verdicts := contender.by_seed[seed].verdicts.get(spec.id))
    }
