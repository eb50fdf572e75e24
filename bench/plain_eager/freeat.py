"""Free adversarial training (Shafahi et al., 2019, https://arxiv.org/abs/1904.12843, algorithm 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, gradient
from bench.plain_eager.perturbations import moved, valid
from crt.models.classifier import boxed

__all__ = ["FreeAT"]


class FreeAT(Restatement):
    """Each backward pass yields the gradients of the weights and of the perturbations, which batches hand on."""

    delta: Tensor | None = None
    """Perturbations of a full batch."""

    def batch(self, x: Tensor, y: Tensor, place: Place) -> list[Tensor]:
        losses, m = [], self.settings.m
        if self.delta is None:
            self.delta = torch.zeros_like(x)
        if self.settings.reset:
            self.delta[: len(x)] = 0
        for k in range(m):
            delta = self.delta[: len(x)].clone().requires_grad_()
            losses.append(self.step(self._loss(x, y, delta), place.epoch + k / m * place.share))
            self.delta[: len(x)] = valid(moved(delta.detach(), gradient(delta), self.threat.eps, self.threat), x)
        return losses

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        return self._loss(x, y, torch.zeros_like(x) if self.delta is None else self.delta[: len(x)])

    def _loss(self, x: Tensor, y: Tensor, delta: Tensor) -> Tensor:
        # The authors' networks clamp their input; another image's perturbation may leave [0, 1].
        return F.cross_entropy(self.model(boxed(x + delta)), y)
