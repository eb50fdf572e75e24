"""Plain convolutional network of RRM's figure 5 (Vaishnavi et al., 2022, https://arxiv.org/abs/2202.09994)."""

from collections.abc import Sequence

from torch import nn

from crt.models.image_size import takes_only

__all__ = ["dnn", "dnn2"]


def _dnn(widths: Sequence[int], depth: int) -> tuple[nn.Module, int]:
    """`depth` convolutions and a pooling layer for each width, then a hidden layer of 512."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in widths:
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    side = 32 // 2 ** len(widths)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side**2, 512), nn.ReLU()), 512


@takes_only(32)
def dnn() -> tuple[nn.Module, int]:
    """Network of the paper's code: six convolutions; 1,341,226 parameters with a head of 10."""
    return _dnn((32, 64, 128), 2)


@takes_only(32)
def dnn2() -> tuple[nn.Module, int]:
    """Network of the paper's text: two convolutions and two linear layers; 2,122,186 parameters with a head of 10.

    The text gives no sizes; these are the sizes of `dnn`'s first two stages and its hidden layer.
    """
    return _dnn((32, 64), 1)
