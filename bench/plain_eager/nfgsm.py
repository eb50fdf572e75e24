"""Noise-FGSM (de Jorge et al., 2022, https://arxiv.org/abs/2202.01181)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, length
from bench.plain_eager.perturbations import valid

__all__ = ["NFGSM"]


class NFGSM(Restatement):
    """The network stays in train mode; the attack takes the gradient of the images alone, as in the authors' code."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        delta = valid(self._noise(x), x).requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(self.model(x + delta), y), [delta])
        direction = g.sign() if self.threat.norm == "linf" else g / (length(g) + 1e-10)
        step = (self.settings.alpha or self.threat.eps) * direction
        return F.cross_entropy(self.model(x + valid(delta.detach() + step, x)), y)

    def _noise(self, x: Tensor) -> Tensor:
        size = self.settings.k * self.threat.eps
        if self.threat.norm == "linf":
            return torch.empty_like(x).uniform_(-size, size)
        direction = torch.randn_like(x)
        return size * direction / length(direction)
