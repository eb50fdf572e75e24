"""Robust soft label adversarial distillation (Zi et al., 2021, https://arxiv.org/abs/2108.07969)."""

import torch
from torch import Tensor

from bench.plain_eager.base import Place, Restatement, kl
from bench.plain_eager.perturbations import farthest

__all__ = ["RSLAD"]


class RSLAD(Restatement):
    """The teacher runs on the clean images once; the student on the adversarial ones, then on the clean ones."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        with torch.no_grad():
            goal = self.teacher(x).softmax(1)
        self.model.eval()
        adversarial = farthest(lambda now: kl(goal, self.model(now)), x, self.threat, h.step_size, h.K)
        self.model.train()
        robust = kl(goal, self.model(adversarial)).mean()
        clean = kl(goal, self.model(x)).mean()
        return h.alpha * robust + (1 - h.alpha) * clean
