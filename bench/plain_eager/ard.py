"""Adversarially robust distillation (Goldblum et al., 2020, https://arxiv.org/abs/1905.09747, equation 3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, gradient
from bench.plain_eager.perturbations import moved, start

__all__ = ["ARD"]


class ARD(Restatement):
    """The network stays in train mode; the attack takes the gradient of the summed cross-entropy."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, threat = self.settings, self.threat
        now = (x + start(x, threat)).clamp(0, 1)
        for _ in range(h.K):
            now = now.detach().requires_grad_()
            F.cross_entropy(self.model(now), y, reduction="sum").backward()
            now = (x + moved(now.detach() - x, gradient(now), h.step_size or threat.eps / 4, threat)).clamp(0, 1)
        with torch.no_grad():
            goal = F.softmax(self.teacher(x) / h.t, 1)
        soft = F.log_softmax(self.model(now) / h.t, 1)
        transfer = h.t**2 * F.kl_div(soft, goal, reduction="batchmean")
        if h.alpha == 1:
            return transfer
        return h.alpha * transfer + (1 - h.alpha) * F.cross_entropy(self.model(x), y)
