"""Gaussian augmentation with consistency regularization (Jeong and Shin, 2020, https://arxiv.org/abs/2006.04062)."""

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, gaussian, noisy_logits
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative
from crt.training.method import STRICT, Method, Step

__all__ = ["Consistency"]


@dataclass(kw_only=True, config=STRICT)
class Consistency(Method):
    """Gaussian augmentation that rewards agreement among an image's noisy copies and confidence of their mean."""

    m: Count = 2
    """Noise vectors of each image, and number of parts of a loaded batch."""
    lbd: NonNegative = 20.0
    """Weight of the disagreement (the paper's lambda); the authors report results for 10 and 20 at sigma 0.25."""
    eta: NonNegative = 0.5
    """Weight of the entropy of the mean prediction."""

    has_cross_entropy = True

    @property
    def chunks(self) -> int:
        return self.m

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = noisy_logits(model, x, gaussian(x, self.threat.sigma, self.m))
        mean = logits.softmax(-1).mean(0)
        entropy = -(mean * mean.clamp_min(1e-20).log()).sum(-1)
        cross_entropy = self.cross_entropy(logits.flatten(0, 1), y.repeat(self.m))
        return cross_entropy + self.lbd * divergence(mean, logits).mean() + self.eta * entropy.mean()
