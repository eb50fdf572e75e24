"""Misclassification-aware adversarial training (Wang et al., 2020, https://openreview.net/forum?id=rklOg6EFwS)."""

import math
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import divergence, frozen, wide
from crt.attacks.pgd import pgd
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["MART"]


@dataclass(kw_only=True, config=STRICT)
class MART(Method):
    """Boosted cross-entropy of adversarial images, plus their divergence from the clean ones where those are missed.

    The divergence has the weight 1 - p, with the clean image's probability p of the label. The attack raises the
    cross-entropy in eval mode, from the image plus normal noise of 0.001, as in the authors' code. Their code adds 1e-4
    to the second probability that the boosted cross-entropy takes the logarithm of, and has no attack in l2.
    """

    K: Count = 10
    """Steps of the attack."""
    alpha: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default 7/31 eps in linf (0.007 at 0.031) and 2 eps / K in l2."""
    beta: NonNegative = 5.0
    """Weight of the divergence (the paper's lambda), as in the authors' command for ResNet-18."""

    needs_eps: ClassVar[bool] = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        eps = self.threat.eps
        alpha = self.alpha or (2 * eps / self.K if self.threat.norm == "l2" else 7 / 31 * eps)
        begin = x + 0.001 * torch.randn_like(x)
        with frozen(model) as network:
            adversarial = pgd(network, x, y, begin, self.threat, alpha, self.K)
        clean, attacked = wide(model(x)).softmax(1), wide(model(adversarial))
        missed = 1 - clean.gather(1, y[:, None])[:, 0]
        return (_boosted(attacked, y) + self.beta * missed * divergence(clean, attacked)).mean()


def _boosted(logits: Tensor, y: Tensor) -> Tensor:
    """-log p of the label, minus log(1 - p) of its strongest rival (B,), for logits (B, classes)."""
    rival = logits.scatter(1, y[:, None], -math.inf).argmax(1)
    # Without a difference from 1, which rounds to 0 where the rival is certain.
    rest = logits.scatter(1, rival[:, None], -math.inf).logsumexp(1) - logits.logsumexp(1)
    return F.cross_entropy(logits, y, reduction="none") - rest
