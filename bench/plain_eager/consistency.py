"""Gaussian augmentation with consistency regularization (Jeong and Shin, 2020, https://arxiv.org/abs/2006.04062)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Chunked, Place, kl

__all__ = ["Consistency"]


class Consistency(Chunked):
    """One forward pass on all copies; equation 7 with the entropy of equation 8."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        copies = torch.cat([x + torch.randn_like(x) * self.threat.sigma for _ in range(h.m)])
        logits = self.model(copies)
        parts = logits.chunk(h.m)
        mean = sum(part.softmax(1) for part in parts) / h.m
        disagreement = sum(kl(mean, part) for part in parts) / h.m
        entropy = -(mean * mean.clamp(min=1e-20).log()).sum(1)
        return F.cross_entropy(logits, y.repeat(h.m)) + (h.lbd * disagreement + h.eta * entropy).mean()
