"""Activations with learnable thresholds, both 1-Lipschitz (Huang et al., 2021, https://arxiv.org/abs/2111.01395)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLUTheta(nn.Module):
    """min(max(x, 0), theta) on tensors (B, *shape), with one threshold for each neuron."""

    def __init__(self, shape: Sequence[int], theta: float):
        super().__init__()
        self.theta = nn.Parameter(torch.full(tuple(shape), theta))

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(F.relu(x), self.theta)

    @torch.no_grad()
    def project(self) -> None:
        """Set negative thresholds, which an optimizer step may produce, to 0."""
        self.theta.clamp_(min=0)


class MaxMin(nn.Module):
    """Halves a and b of the channels of (B, *shape) become min(max(a, b), high) and max(min(a, b), low)."""

    def __init__(self, shape: Sequence[int], high: float, low: float):
        super().__init__()
        half = (shape[0] // 2, *shape[1:])
        self.high = nn.Parameter(torch.full(half, high))
        self.low = nn.Parameter(torch.full(half, low))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        most, least = torch.minimum(torch.maximum(a, b), self.high), torch.maximum(torch.minimum(a, b), self.low)
        return torch.cat([most, least], 1)
