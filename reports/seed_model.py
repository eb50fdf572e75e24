"""A model of accuracies by seed and image: its cases, the true mean of each, and draws."""

from typing import NamedTuple

import numpy as np
from scipy import special

DIFFICULTY = 2.0
"""Standard deviation of the images' difficulty, in units of the logit."""
COLLAPSE = 0.2
"""Share of trainings that collapse, in the cases that say so."""
ALIKE = 0.9
"""Correlation of the difficulties that an image has for two methods."""
_RADII = (0.4, 0.1)
"""Standard deviations of a radius between images and within a cell."""


class Case(NamedTuple):
    """How accuracies vary: accuracy of a typical training, and the effect of its seed on the logit."""

    label: str
    share: float = 0.5
    kind: str = "normal"
    sd: float = 0.0
    images: int = 500
    other: float | None = None
    """Typical accuracy of the second method, where two are compared."""
    common: float = 0.0
    """Correlation of two methods' effects of one seed."""


MEANS = (
    Case("no effect of the seed"),
    Case("no effect of the seed", images=64),
    Case("normal, small", sd=0.1),
    Case("normal, small", sd=0.1, images=10_000),
    Case("normal, medium", sd=0.3),
    Case("normal, medium", sd=0.3, images=64),
    Case("normal, medium", sd=0.3, images=10_000),
    Case("normal, large", sd=1.0),
    Case("normal, medium, accuracy near 0", 0.03, sd=0.3),
    Case("normal, medium, accuracy near 0", 0.03, sd=0.3, images=64),
    Case("normal, medium, accuracy near 1", 0.97, sd=0.3),
    Case("normal, large, accuracy near 1", 0.97, sd=0.8),
    Case("skewed, medium", kind="skewed", sd=0.3),
    Case("skewed, large", kind="skewed", sd=1.0),
    Case("radii (ACR), normal", kind="radii", sd=0.05),
)
COLLAPSES = Case("1 in 5 trainings collapses", kind="collapse", sd=0.2)
DIFFERENCES = (
    Case("no effect of the seed", other=0.45),
    Case("independent seeds, small", sd=0.1, other=0.45),
    Case("independent seeds, medium", sd=0.3, other=0.45),
    Case("independent seeds, medium", sd=0.3, other=0.45, images=64),
    Case("independent seeds, large", sd=1.0, other=0.45),
    Case("independent seeds, equal methods", sd=0.3, other=0.5),
    Case("independent seeds, accuracies near 1", 0.97, sd=0.3, other=0.95),
    Case("one seed, one effect (correlation 0.8)", sd=0.3, other=0.45, common=0.8),
    Case("skewed, independent seeds, medium", kind="skewed", sd=0.3, other=0.45),
    Case("1 in 5 trainings collapses", kind="collapse", sd=0.2, other=0.45),
)


def effect(case: Case, uniform: np.ndarray) -> np.ndarray:
    """Effects of seeds at these quantiles of their distribution."""
    if case.kind == "skewed":
        # An exponential tail of bad trainings.
        return case.sd * (np.log(uniform) + 1)
    if case.kind == "collapse":
        fine = special.ndtri(np.clip((uniform - COLLAPSE) / (1 - COLLAPSE), 1e-9, 1))
        return np.where(uniform < COLLAPSE, -6.0, case.sd * fine)
    return case.sd * special.ndtri(uniform)


def truth(case: Case, share: float) -> float:
    """Expectation over seeds, by quantiles, and images, by Gauss-Hermite quadrature."""
    effects = effect(case, (np.arange(20_000) + 0.5) / 20_000)
    if case.kind == "radii":
        mean, sd = share + effects, np.hypot(*_RADII)
        return float(
            (mean * special.ndtr(mean / sd) + sd * np.exp(-((mean / sd) ** 2) / 2) / np.sqrt(2 * np.pi)).mean()
        )
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(
        (special.expit(_level(share) + effects[:, None] + DIFFICULTY * points) @ weights).mean() / weights.sum()
    )


def _level(share: float) -> float:
    """Logit of an image of mean difficulty; the logistic's mean over normal logits is nearly a logistic again."""
    return float(special.logit(share) * np.sqrt(1 + DIFFICULTY**2 / 2.9))


def draw(
    rng: np.random.Generator, case: Case, seeds: int, studies: int, images: np.ndarray | None = None
) -> list[np.ndarray]:
    """Values (studies, seeds, images) of one method, or of two on the same images.

    `images` (studies, 1, images) are the difficulties of images that methods drawn one by one share.
    """
    normal = rng.normal(size=(studies, seeds, 2))
    normal[..., 1] = case.common * normal[..., 0] + np.sqrt(1 - case.common**2) * normal[..., 1]
    effects = effect(case, special.ndtr(normal))
    if images is None:
        images = rng.normal(size=(studies, 1, case.images))
    if case.kind == "radii":
        own = _RADII[1] * rng.normal(size=(studies, seeds, case.images))
        return [np.maximum(case.share + effects[..., :1] + _RADII[0] * images + own, 0)]
    shares = [case.share] if case.other is None else [case.share, case.other]
    return [
        (rng.random((studies, seeds, case.images), np.float32) < special.expit(logit.astype(np.float32))).astype(float)
        for logit in (
            _level(share) + effects[..., k : k + 1] + DIFFICULTY * _for_a_method(rng, images)
            for k, share in enumerate(shares)
        )
    ]


def _for_a_method(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Difficulty of each image for one method."""
    return ALIKE * images + np.sqrt(1 - ALIKE**2) * rng.normal(size=images.shape)
