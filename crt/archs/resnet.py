"""ResNets for CIFAR (He et al., 2016, https://arxiv.org/abs/1512.03385), projection shortcuts."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["resnet10", "resnet20", "resnet110"]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


def _stages(widths: Sequence[int], blocks: int) -> nn.Sequential:
    inputs = widths[0]
    layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()]
    for stage, outputs in enumerate(widths):
        for i in range(blocks):
            layers.append(_Block(inputs, outputs, 2 if stage > 0 and i == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _resnet(n: int) -> tuple[nn.Module, int]:
    """Of 6n + 2 layers, with the first weights of He et al., 2015."""
    body = _stages((16, 32, 64), n)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, 64


def resnet10() -> tuple[nn.Module, int]:
    """Four stages of 1 block, four times as wide, 4,903,242 parameters with a head of 10."""
    return _stages((64, 128, 256, 512), 1), 512


def resnet20() -> tuple[nn.Module, int]:
    """Three stages of 3 blocks, 272,474 parameters with a head of 10."""
    return _resnet(3)


def resnet110() -> tuple[nn.Module, int]:
    """Three stages of 18 blocks, 1,730,714 parameters with a head of 10."""
    return _resnet(18)
