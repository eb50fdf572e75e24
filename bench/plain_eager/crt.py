"""Certified robustness transfer (Vaishnavi et al., 2022, https://arxiv.org/abs/2210.14283, algorithm 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["CRT"]


class CRT(Restatement):
    """Distance of the logits on the same noisy images; without autograd's anomaly mode, which the authors' code has on.

    That mode, left on by mistake, would double the time on a host that bounds it.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        noisy = x + torch.randn_like(x) * self.threat.sigma
        with torch.no_grad():
            target = self.teacher(noisy)
        logits = self.model(noisy)
        if h.target == "softmax":
            transfer = torch.norm(logits.softmax(1) - target.softmax(1), dim=1).mean()
        else:
            transfer = torch.norm(logits - target, dim=1).mean()
        if h.alpha == 1:
            return transfer
        return h.alpha * transfer + (1 - h.alpha) * F.cross_entropy(logits, y)
