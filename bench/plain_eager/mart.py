"""Misclassification-aware adversarial training (Wang et al., 2020, https://openreview.net/forum?id=rklOg6EFwS)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, kl
from bench.plain_eager.perturbations import moved, valid

__all__ = ["MART"]


class MART(Restatement):
    """The attack is in eval mode, with gradients for the images alone; the loss is that of the paper.

    The authors' code adds 1e-4 to the probability in the second logarithm, 1e-12 to those in others, and 1e-7 to the
    weight of the divergence.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        adversarial = self._attack(x, y)
        logits, attacked = self.model(x), self.model(adversarial)
        probabilities = attacked.softmax(1)
        first, second = attacked.topk(2, dim=1).indices.unbind(1)
        rival = torch.where(first == y, second, first)
        boosted = F.cross_entropy(attacked, y) + F.nll_loss((1 - probabilities).log(), rival)
        clean = logits.softmax(1)
        missed = 1 - clean.gather(1, y.view(-1, 1)).squeeze(1)
        return boosted + self.settings.beta * (missed * kl(clean, attacked)).mean()

    def _attack(self, x: Tensor, y: Tensor) -> Tensor:
        h, threat = self.settings, self.threat
        alpha = h.alpha or (2 * threat.eps / h.K if threat.norm == "l2" else 0.007 / 0.031 * threat.eps)
        self.model.eval()
        delta = 0.001 * torch.randn_like(x)
        for _ in range(h.K):
            delta.requires_grad_()
            (g,) = torch.autograd.grad(F.cross_entropy(self.model(x + delta), y, reduction="sum"), [delta])
            delta = valid(moved(delta.detach(), g, alpha, threat), x)
        self.model.train()
        return x + delta
