"""Pooling of whole feature maps."""

from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """Means (B, C) over the positions of feature maps (B, C, H, W).

    `nn.AdaptiveAvgPool2d(1)` computes the same, and with channels as the fastest dimension its way back takes two more
    kernels.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
