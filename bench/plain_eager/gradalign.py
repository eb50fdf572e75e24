"""FGSM with gradient alignment (Andriushchenko and Flammarion, 2020, https://arxiv.org/abs/2007.02617)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, length
from bench.plain_eager.perturbations import moved, start, valid

__all__ = ["GradAlign"]


class GradAlign(Restatement):
    """The network stays in train mode. The authors' code does not clamp the random point to [0, 1]."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        here = self._gradient(x, torch.zeros_like(x), y)
        delta = valid(moved(torch.zeros_like(x), here.detach(), self.threat.eps, self.threat), x)
        cross_entropy = F.cross_entropy(self.model(x + delta), y)
        there = self._gradient(x, valid(start(x, self.threat), x), y)
        return cross_entropy + self.settings.lbd * self._misalignment(here, there)

    def _gradient(self, x: Tensor, delta: Tensor, y: Tensor) -> Tensor:
        delta = delta.requires_grad_()
        loss = F.cross_entropy(self.model(x + delta), y)
        return torch.autograd.grad(loss, [delta], create_graph=True)[0]

    def _misalignment(self, here: Tensor, there: Tensor) -> Tensor:
        kept = ((length(here) != 0) & (length(there) != 0)).flatten()
        here, there = here[kept], there[kept]
        return 1 - (here / length(here) * there / length(there)).sum((1, 2, 3)).mean()
