"""ResNeXt29-2x64d for CIFAR (Xie et al., 2017, https://arxiv.org/abs/1611.05431)."""

import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["resnext29"]

_CARDINALITY, _BOTTLENECK = 2, 64


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 2 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=_CARDINALITY, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))


def resnext29() -> tuple[nn.Module, int]:
    """Three stages of 3 blocks in two groups, 9,128,778 parameters with a head of 10."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inputs = 64
    for stage, stride in enumerate((1, 2, 2)):
        width = _CARDINALITY * _BOTTLENECK * 2**stage
        for i in range(3):
            layers.append(_Block(inputs, width, stride if i == 0 else 1))
            inputs = 2 * width
    return nn.Sequential(*layers, GlobalAverage()), inputs
