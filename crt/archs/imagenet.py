"""torchvision's networks for ImageNet on 224x224 images, without their last layer."""

from torch import nn

# torchvision takes a second or more to import, so only the networks that need it import it.
from crt.models.image_size import takes_only

__all__ = ["imagenet_alexnet", "imagenet_regnetx_4gf", "imagenet_resnet18", "imagenet_resnet50", "imagenet_vgg16"]


def _cut(network: nn.Module) -> tuple[nn.Module, int]:
    last = network.fc
    if not isinstance(last, nn.Linear):
        raise TypeError(f"a {type(network).__name__} ends in a {type(last).__name__} (allowed: Linear)")
    network.fc = nn.Identity()
    return network, last.in_features


def imagenet_resnet18() -> tuple[nn.Module, int]:
    """He et al., 2016 (https://arxiv.org/abs/1512.03385), 11,689,512 parameters with a head of 1000."""
    from torchvision.models import resnet18

    return _cut(resnet18())


def imagenet_resnet50() -> tuple[nn.Module, int]:
    """He et al., 2016, with the stride in the 3x3 convolution, 25,557,032 parameters with a head of 1000."""
    from torchvision.models import resnet50

    return _cut(resnet50())


def imagenet_regnetx_4gf() -> tuple[nn.Module, int]:
    """RegNetX-4.0GF (Radosavovic et al., 2020, https://arxiv.org/abs/2003.13678), 22,118,248 with a head of 1000."""
    from torchvision.models.regnet import BlockParams, BottleneckTransform, RegNet

    stages = BlockParams([2, 5, 14, 2], [80, 240, 560, 1360], [40] * 4, [1.0] * 4, strides=[2] * 4)
    network = RegNet(stages)
    for module in network.modules():
        if isinstance(module, BottleneckTransform):
            # The published network's residual branches start at zero; torchvision's do not.
            nn.init.zeros_(module.c[1].weight)
    return _cut(network)


@takes_only(224)
def imagenet_alexnet() -> tuple[nn.Module, int]:
    """Krizhevsky, 2014 (https://arxiv.org/abs/1404.5997), second hidden layer of 2048, 48,631,625 with a head of 9."""
    from torchvision.models import alexnet

    network = alexnet()
    network.classifier[4] = nn.Linear(4096, 2048)
    del network.classifier[6]
    return network, 2048


def imagenet_vgg16() -> tuple[nn.Module, int]:
    """Simonyan and Zisserman, 2015 (https://arxiv.org/abs/1409.1556), as above, 125,888,329 with a head of 9."""
    from torchvision.models import vgg16

    network = vgg16()
    hidden = network.classifier[3] = nn.Linear(4096, 2048)
    nn.init.normal_(hidden.weight, std=0.01)
    nn.init.zeros_(hidden.bias)
    # Features are compared before the last dropout, which therefore belongs to the head.
    network.head_dropout = network.classifier[5].p
    del network.classifier[5:]
    return network, 2048
