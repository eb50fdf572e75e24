"""Wide residual networks for CIFAR (Zagoruyko and Komodakis, 2016, https://arxiv.org/abs/1605.07146)."""

import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.pooling import GlobalAverage

__all__ = ["wideresnet34_10"]


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


def wideresnet34_10() -> tuple[nn.Module, int]:
    """Pre-activated, three stages of 5 blocks, ten times as wide, 46,160,474 parameters with a head of 10."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
    inputs = 16
    for outputs, stride in ((160, 1), (320, 2), (640, 2)):
        for i in range(5):
            layers.append(_Block(inputs, outputs, stride if i == 0 else 1))
            inputs = outputs
    layers += [nn.BatchNorm2d(inputs), nn.ReLU(), GlobalAverage()]
    body = nn.Sequential(*layers)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, inputs
