"""Adaptive adversarial distillation (Huang et al., CVPR 2023, pages 24668-24677)."""

import torch
from torch import Tensor

from bench.plain_eager.base import Place, Restatement, kl
from bench.plain_eager.perturbations import farthest

__all__ = ["AdaAD"]


class AdaAD(Restatement):
    """The attack differentiates both networks; the loss the student's alone."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        self.model.eval()
        adversarial = farthest(
            lambda now: kl(self.teacher(now).softmax(1), self.model(now)), x, self.threat, h.step_size, h.K
        )
        self.model.train()
        if h.alpha == 1:
            return self._apart(adversarial)
        clean = self._apart(x)
        return h.alpha * self._apart(adversarial) + (1 - h.alpha) * clean

    def _apart(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            goal = self.teacher(x).softmax(1)
        return kl(goal, self.model(x)).mean()
