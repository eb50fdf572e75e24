"""Efficient margin maximization (EMMA; Hu et al., 2023, https://arxiv.org/abs/2301.12549)."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.measures import features_constant
from crt.lipschitz.training import Normed
from crt.lipschitz.translation import over_ball
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Step

__all__ = ["EMMA"]

FIRST = 0.1
"""Radius at the end of the warm-up, as a multiple of the threat's."""
LEAST = 0.01
"""Least share of the radius that every class has, also where it has won already."""


@dataclass(kw_only=True, config=STRICT)
class EMMA(Normed):
    """GloRo's margins with a radius of each class's own: that at which it reaches the image's class, or the full one.

    Cross-entropy of the logits, each raised by the most that it can gain on the image's class within its radius, which
    has no gradient. The schedule is that of the authors' code for CIFAR-10; its residual network with a normalized last
    layer, NAdam with look-ahead, clipped gradients and generated images are not used.
    """

    warmup: NonNegative = 0.0
    """Epochs of cross-entropy alone; the authors have none."""
    ramp: Positive = 400.0
    """Epochs over which the radius then rises to its full size, half of the authors' 800."""
    widening: Positive = 3.0
    """Full radius as a multiple of the threat's."""
    power_iterations: Count = 10
    """Power iterations of each layer's norm in each step."""

    named: ClassVar[tuple[str, ...]] = ("widening",)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = wide(model(x))
        if step.epoch < self.warmup:
            return F.cross_entropy(logits, y)
        layers = chain(model, x.shape[1:])
        with exact(x.device):
            rho = self.radius(step.now) * features_constant(model, layers, self.norms(layers[:-1]))
            gains = over_ball(model.head.weight, y, rho)
            return F.cross_entropy(logits + _share(logits, gains, y) * gains, y)

    def radius(self, now: float | Tensor) -> float | Tensor:
        """Training radius at an epoch."""
        return self.threat.eps * (FIRST + (self.widening - FIRST) * self.share(now))


@torch.no_grad()
def _share(logits: Tensor, gains: Tensor, y: Tensor) -> Tensor:
    """Share (B, classes) of the gains with which a class reaches the logit of `y` (B,), from `LEAST` to 1."""
    margins = logits.gather(1, y[:, None]) - logits
    # A class with neither margin nor gain, such as the image's own, gains nothing at any share.
    return (margins / gains).nan_to_num(1.0).clamp(LEAST, 1)
