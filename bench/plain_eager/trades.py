"""TRADES (Zhang et al., 2019, https://arxiv.org/abs/1901.08573, algorithm 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.awp import WeightPerturbing
from bench.plain_eager.base import Place, kl
from bench.plain_eager.perturbations import moved, valid
from crt.models.classifier import Classifier

__all__ = ["TRADES"]


class TRADES(WeightPerturbing):
    """The attack runs the clean images again in each step, as in the authors' code.

    Its gradients are for the images alone. Their code runs the clean images twice in train mode, and projects in l2
    onto the box before the ball.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        adversarial = self._attack(x)

        def loss(network: Classifier) -> Tensor:
            logits = network(x)
            apart = kl(logits.softmax(1), network(adversarial)).mean()
            return F.cross_entropy(logits, y) + self.settings.beta * apart

        return self.worst(loss)

    def _attack(self, x: Tensor) -> Tensor:
        h, threat = self.settings, self.threat
        alpha = h.alpha or (2 * threat.eps / h.K if threat.norm == "l2" else 0.007 / 0.031 * threat.eps)
        self.model.eval()
        delta = 0.001 * torch.randn_like(x)
        for _ in range(h.K):
            delta.requires_grad_()
            divergence = kl(self.model(x).softmax(1), self.model(x + delta)).sum()
            (g,) = torch.autograd.grad(divergence, [delta])
            delta = valid(moved(delta.detach(), g, alpha, threat), x)
        self.model.train()
        return x + delta
