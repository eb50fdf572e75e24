"""RegNetX-200MF for CIFAR (Radosavovic et al., 2020, https://arxiv.org/abs/2003.13678), with a stem of 64."""

import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["regnetx_200mf"]

_GROUP = 8


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, groups=outputs // _GROUP, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))


def regnetx_200mf() -> tuple[nn.Module, int]:
    """Stages of 1, 1, 4 and 7 blocks, 2,321,946 parameters with a head of 10."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inputs = 64
    for depth, width, stride in ((1, 24, 1), (1, 56, 1), (4, 152, 2), (7, 368, 2)):
        for i in range(depth):
            layers.append(_Block(inputs, width, stride if i == 0 else 1))
            inputs = width
    return nn.Sequential(*layers, GlobalAverage()), inputs
