"""MACER (Zhai et al., 2020, https://arxiv.org/abs/2001.02378)."""

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import gaussian, noisy_logits
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["MACER"]


@dataclass(kw_only=True, config=STRICT)
class MACER(Method):
    """Error of the smoothed classifier, and a hinge loss on the certified radius of correctly classified images."""

    k: Count = 16
    """Noise vectors of each image."""
    lbd: NonNegative = 12.0
    """Weight of the hinge (the paper's lambda)."""
    gamma: Positive = 8.0
    """End of the hinge, a radius of sigma gamma / 2."""
    beta: Positive = 16.0
    """Inverse temperature of the softmax from which the radius is computed."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = noisy_logits(model, x, gaussian(x, self.threat.sigma, self.k))
        p = logits.softmax(-1).mean(0).gather(1, y[:, None])
        error = -(p + 1e-10).log().sum()
        top, label = (self.beta * logits).softmax(-1).mean(0).topk(2)
        # Phi^-1 and its gradient are infinite at 0 and 1: such an image gets another value and no weight.
        finite = (top[:, 0] < 1) & (top[:, 1] > torch.finfo(top.dtype).tiny)
        quantile = torch.special.ndtri(torch.where(finite[:, None], top, 0.5))
        margin = quantile[:, 0] - quantile[:, 1]
        kept = finite & (label[:, 0] == y) & (margin <= self.gamma)
        hinge = torch.where(kept, self.gamma - margin, 0).sum()
        return (error + self.lbd * self.threat.sigma / 2 * hinge) / len(x)
