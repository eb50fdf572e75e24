"""MACER (Zhai et al., 2020, https://arxiv.org/abs/2001.02378, algorithm 1)."""

import math

import torch
from torch import Tensor

from bench.plain_eager.base import Place, Restatement

__all__ = ["MACER"]


class MACER(Restatement):
    """One forward pass on the k noisy copies of each image, which stand side by side."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, sigma = self.settings, self.threat.sigma
        # The noise is drawn copy by copy, not image by image as by the authors, whose numbers are other ones.
        noise = torch.randn((h.k, *x.shape), dtype=x.dtype, device=x.device).transpose(0, 1).flatten(0, 1) * sigma
        logits = self.model(x.repeat_interleave(h.k, 0) + noise).view(len(x), h.k, -1)
        p = logits.softmax(2).mean(1)
        classification = -(p[torch.arange(len(x), device=x.device), y] + 1e-10).log().sum()
        top, label = (h.beta * logits).softmax(2).mean(1).topk(2)
        top = top[label[:, 0] == y]
        margin = _quantile(top[:, 0]) - _quantile(top[:, 1])
        # Boolean indexing, as by the authors: it waits for the device.
        top = top[margin.isfinite() & (margin.abs() <= h.gamma)]
        hinge = h.gamma - (_quantile(top[:, 0]) - _quantile(top[:, 1]))
        return (classification + h.lbd * sigma / 2 * hinge.sum()) / len(x)


def _quantile(p: Tensor) -> Tensor:
    """Quantile of the normal distribution."""
    return math.sqrt(2) * torch.erfinv(2 * p - 1)
