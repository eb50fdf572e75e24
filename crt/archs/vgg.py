"""VGG for CIFAR with BatchNorm (Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556)."""

from torch import nn

from crt.models.image_size import takes_only

__all__ = ["vgg11", "vgg19"]


def _vgg(*depths: int) -> tuple[nn.Module, int]:
    """One stage for each width with this many convolutions, each halving the image: from 32x32 to 1x1."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten()), inputs


@takes_only(32)
def vgg11() -> tuple[nn.Module, int]:
    """Eight convolutions, 9,231,114 parameters with a head of 10."""
    return _vgg(1, 1, 2, 2, 2)


@takes_only(32)
def vgg19() -> tuple[nn.Module, int]:
    """Sixteen convolutions, 20,040,522 parameters with a head of 10."""
    return _vgg(2, 2, 4, 4, 4)
