"""ResNets for CIFAR (He et al., 2016, https://arxiv.org/abs/1512.03385) with projection shortcuts."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["resnet10", "resnet18", "resnet20", "resnet50", "resnet50_512", "resnet110"]

_WIDE = (64, 128, 256, 512)


class _Block(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))


def _stages(
    widths: Sequence[int], depths: Sequence[int], block: type[_Block | _Bottleneck] = _Block
) -> tuple[nn.Sequential, int]:
    """One stage of blocks for each width, and the number of features."""
    inputs = widths[0]
    layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(depth):
            layers.append(block(inputs, width, 2 if stage > 0 and i == 0 else 1))
            inputs = block.expansion * width
    return nn.Sequential(*layers, GlobalAverage()), inputs


def _resnet(n: int) -> tuple[nn.Module, int]:
    """Network of 6n + 2 layers, initialized as in He et al., 2015."""
    body, width = _stages((16, 32, 64), (n,) * 3)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, width


def resnet10() -> tuple[nn.Module, int]:
    """Four stages of 1 block, four times as wide, 4,903,242 parameters with a head of 10."""
    return _stages(_WIDE, (1, 1, 1, 1))


def resnet18() -> tuple[nn.Module, int]:
    """Four stages of 2 blocks, 11,173,962 parameters with a head of 10."""
    return _stages(_WIDE, (2, 2, 2, 2))


def resnet50() -> tuple[nn.Sequential, int]:
    """Four stages of 3, 4, 6 and 3 bottlenecks, 23,520,842 parameters with a head of 10."""
    return _stages(_WIDE, (3, 4, 6, 3), _Bottleneck)


def resnet50_512() -> tuple[nn.Module, int]:
    """resnet50 with a linear layer to 512 features, so that they can be compared with other networks' (24,554,570)."""
    body, width = resnet50()
    return body.append(nn.Linear(width, 512)), 512


def resnet20() -> tuple[nn.Module, int]:
    """Three stages of 3 blocks, 272,474 parameters with a head of 10."""
    return _resnet(3)


def resnet110() -> tuple[nn.Module, int]:
    """Three stages of 18 blocks, 1,730,714 parameters with a head of 10."""
    return _resnet(18)
