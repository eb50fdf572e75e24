"""Gaussian augmentation (Cohen et al., 2019, https://arxiv.org/abs/1902.02918, section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["Gaussian"]


class Gaussian(Restatement):
    """Cross-entropy of one noisy copy of each image."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        noise = torch.randn_like(x) * self.threat.sigma
        return F.cross_entropy(self.model(x + noise), y)
