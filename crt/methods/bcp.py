"""Box constraint propagation (Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.training import Normed, mixed
from crt.lipschitz.translation import over_both
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["BCP"]


@dataclass(kw_only=True, config=STRICT)
class BCP(Normed):
    """Cross-entropy of the worst logits over the ball and the box that contain the features."""

    warmup: NonNegative = 10.0
    """Epochs of cross-entropy alone."""
    ramp: Positive = 121.0
    """Epochs over which the radius then rises to the threat's, and the clean loss's weight falls to its final value."""
    kappa_final: Share = 0.0
    """Final weight of the clean loss."""
    power_iterations: Count = 1
    """Power iterations of each layer's norm in each step."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, layers = self.share(step.now), chain(model, x.shape[1:])
        with exact(x.device):
            norms = self.norms(layers[:-1])
            region = before_head(model, layers, x, share * self.threat.eps, norms)
            logits = model.head(region.mu)
            worst = logits + over_both(model.head.weight, y, region)
            return mixed(logits, worst, y, 1 - (1 - self.kappa_final) * share)
