"""Plain convnets without BatchNorm (2C2F as in Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

from torch import nn

__all__ = ["cnn2c2f"]


def cnn2c2f() -> tuple[nn.Module, int]:
    """Two convolutions of stride 2 and a hidden layer of 100, for 32x32 images."""
    body = nn.Sequential(
        _conv(3, 16), nn.ReLU(), _conv(16, 32), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 100), nn.ReLU()
    )  # fmt: skip
    return body, 100


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
    nn.init.normal_(conv.weight, std=(2 / (16 * outputs)) ** 0.5)
    nn.init.zeros_(conv.bias)
    return conv
