"""Residual networks for CIFAR that normalize and activate before each convolution.

He et al., 2016 (https://arxiv.org/abs/1603.05027), and wide ones of Zagoruyko and Komodakis, 2016
(https://arxiv.org/abs/1605.07146).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["preact_resnet18", "wideresnet34_10"]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        inner = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


def _stages(first: int, widths: tuple[int, ...], blocks: int) -> nn.Sequential:
    """Stages of `blocks` blocks each, all but the first of which halve the image."""
    layers: list[nn.Module] = [nn.Conv2d(3, first, 3, 1, 1, bias=False)]
    inputs = first
    for stage, outputs in enumerate(widths):
        for block in range(blocks):
            layers.append(_Block(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), GlobalAverage())


def preact_resnet18() -> tuple[nn.Module, int]:
    """Four stages of 2 blocks, 11,172,170 parameters with a head of 10, as in "Fast is better than free" (2020)."""
    return _stages(64, (64, 128, 256, 512), 2), 512


def wideresnet34_10() -> tuple[nn.Module, int]:
    """Three stages of 5 blocks, ten times as wide, 46,160,474 parameters with a head of 10."""
    body = _stages(16, (160, 320, 640), 5)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, 640
