"""Deep layer aggregation for CIFAR (Yu et al., 2018, https://arxiv.org/abs/1707.06484)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["dla"]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class _Tree(nn.Module):
    """Two blocks and a root that joins them; at level 2, a whole tree and the tree's own first block come before."""

    def __init__(self, inputs: int, outputs: int, level: int, stride: int):
        super().__init__()
        self.before = _Block(inputs, outputs, stride) if level == 2 else None
        self.subtree = _Tree(inputs, outputs, 1, stride) if level == 2 else None
        self.left = _Block(outputs, outputs) if level == 2 else _Block(inputs, outputs, stride)
        self.right = _Block(outputs, outputs)
        self.root = nn.Sequential(
            nn.Conv2d((2 * level) * outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        joined: list[Tensor] = []
        if self.before is not None and self.subtree is not None:
            joined = [self.before(x), self.subtree(x)]
            x = joined[-1]
        left = self.left(x)
        return self.root(torch.cat([*joined, left, self.right(left)], 1))


def dla() -> tuple[nn.Module, int]:
    """DLA with trees of levels 1, 2, 2, 1; 16,291,386 parameters with a head of 10."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    trees = [_Tree(32, 64, 1, 1), _Tree(64, 128, 2, 2), _Tree(128, 256, 2, 2), _Tree(256, 512, 1, 2)]
    return nn.Sequential(*layers, *trees, GlobalAverage()), 512
