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
    """Cross-entropy of the worst logits over the ball that contains the features."""

    margin: Literal["full", "original"] = "full"
    """The full translation, as in Lee et al., 2020; or the part under which the class still wins, without `kappa`."""
    warmup: NonNegative = 10.0
    """Epochs of cross-entropy alone; LMT's authors have none."""
    ramp: Positive = 121.0
    """Epochs over which the radius then rises to the threat's; LMT's authors use 5."""
    kappa_final: Share = 0.0
    """Final weight of the clean loss, which falls from 1 while the radius rises."""
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
    """Largest share (B, 1), at most 1, of the translations under which the classes `y` still win; 0 if they do not win.

    Section 5 of the paper; the share has no gradient.
    """
    margins = logits.gather(1, y[:, None]) - logits
    # A class with neither margin nor translation, such as the image's own, allows the full share.
    return (margins / moved).nan_to_num(1.0).clamp(0, 1).amin(1, keepdim=True)
