"""Lipschitz-margin training (Tsuzuku et al., 2018, https://arxiv.org/abs/1802.04034)."""

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.measures import features_constant
from crt.lipschitz.training import Normed, mixed
from crt.lipschitz.translation import over_ball
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["LMT"]


@dataclass(kw_only=True, config=STRICT)
class LMT(Normed):
    """The cross-entropy at the worst logits over the ball that the features are in."""

    margin: Literal["full", "original"] = "full"
    """All of the translation, as Lee et al., 2020, compare with; or the part that the logits bear, without `kappa`."""
    warmup: NonNegative = 10.0
    """Epochs of cross-entropy alone; LMT's authors have none."""
    ramp: Positive = 121.0
    """Epochs in which the radius then rises to the threat's; LMT's authors take 5."""
    kappa_final: Share = 0.0
    """Last weight of the clean loss, which falls from 1 while the radius rises."""
    power_iterations: Count = 1
    """Power iterations of each layer's norm in each step."""

    named: ClassVar[tuple[str, ...]] = ("margin",)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = wide(model(x))
        if step.epoch < self.warmup:
            return F.cross_entropy(logits, y)
        share, layers = self.share(step.now), chain(model, x.shape[1:])
        with exact(x.device):
            norms = self.norms(layers[:-1])
            rho = share * self.threat.eps * features_constant(model, layers, norms)
            moved = over_ball(model.head.weight, y, rho)
            if self.margin == "original":
                return F.cross_entropy(logits + _borne(logits, moved, y) * moved, y)
            return mixed(logits, logits + moved, y, 1 - (1 - self.kappa_final) * share)


@torch.no_grad()
def _borne(logits: Tensor, moved: Tensor, y: Tensor) -> Tensor:
    """The largest share (B, 1), 1 at most, of the translations under which the classes `y` still win; 0 if they do not.

    Section 5 of the paper; it counts as a constant.
    """
    margins = logits.gather(1, y[:, None]) - logits
    # A class with neither margin nor translation, such as the image's own, bears all.
    return (margins / moved).nan_to_num(1.0).clamp(0, 1).amin(1, keepdim=True)
