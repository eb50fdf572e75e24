"""FGSM training with a random start (Wong et al., 2020, https://arxiv.org/abs/2001.03994, algorithm 3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, gradient
from bench.plain_eager.perturbations import moved, start, valid

__all__ = ["FGSMRS"]


class FGSMRS(Restatement):
    """The network stays in train mode.

    The attack takes the gradients of all weights, which are discarded, as in the authors' code.
    """

    previous: Tensor | None = None
    """Perturbations of a full batch, with `init: previous`."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, threat = self.settings, self.threat
        delta = self._start(x).requires_grad_()
        F.cross_entropy(self.model(x + delta), y).backward()
        delta = valid(moved(delta.detach(), gradient(delta), h.alpha or 1.25 * threat.eps, threat), x)
        if self.previous is not None:
            self.previous[: len(x)] = delta
        return F.cross_entropy(self.model(x + delta), y)

    def _start(self, x: Tensor) -> Tensor:
        if self.settings.init == "random":
            return valid(start(x, self.threat), x)
        if self.settings.init == "zero":
            return torch.zeros_like(x)
        if self.previous is None:
            self.previous = torch.zeros_like(x)
        return self.previous[: len(x)].clone()
