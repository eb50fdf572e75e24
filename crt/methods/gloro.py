"""Globally robust networks (Leino et al., 2021, https://arxiv.org/abs/2102.08452)."""

import math
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import divergence, wide
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.measures import features_constant
from crt.lipschitz.training import Normed
from crt.lipschitz.translation import over_ball
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Step

__all__ = ["GloRo"]


@dataclass(kw_only=True, config=STRICT)
class GloRo(Normed):
    """Loss with one more class, "not robust", whose logit is the largest that a class besides the predicted can reach.

    The loss and the schedules are the authors'; their initial weights (orthogonal, or Glorot's) and augmentation are
    not used.
    """

    objective: Literal["ce", "trades"] = "ce"
    """Cross-entropy over all classes; or that over the real ones, and the divergence of all from them."""
    lbd: NonNegative = 1.2
    """Weight of the divergence (the authors' lambda)."""
    warmup: NonNegative = 20.0
    """Epochs of cross-entropy alone."""
    ramp: Positive = 400.0
    """Epochs over which the radius then rises, logarithmically in time, to its full size."""
    widening: Positive = 1.1
    """Full radius as a multiple of the threat's."""
    power_iterations: Count = 5
    """Power iterations of each layer's norm in each step."""

    named: ClassVar[tuple[str, ...]] = ("objective",)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = wide(model(x))
        if step.epoch < self.warmup:
            return F.cross_entropy(logits, y)
        layers = chain(model, x.shape[1:])
        with exact(x.device):
            norms = self.norms(layers[:-1])
            rho = self.radius(step.now) * features_constant(model, layers, norms)
            predicted = logits.argmax(1)
            reached = logits + over_ball(model.head.weight, predicted, rho)
            bottom = reached.scatter(1, predicted[:, None], -torch.inf).amax(1, keepdim=True)
            extended = torch.cat([logits, bottom], 1)
            if self.objective == "ce":
                return F.cross_entropy(extended, y)
            clean = F.pad(logits.softmax(1), (0, 1))
            return F.cross_entropy(logits, y) + self.lbd * divergence(clean, extended).mean()

    def radius(self, now: float | Tensor) -> float | Tensor:
        """Training radius at an epoch: one hundredth of the full radius at the end of the warm-up."""
        first = math.exp(0.01)
        risen = first + (math.e - first) * self.share(now)
        return self.widening * self.threat.eps * (risen.log() if isinstance(risen, Tensor) else math.log(risen))
