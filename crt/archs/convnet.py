"""Convnets as chains of layers, for 32x32 images (Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from crt.models.activations import MaxMin, ReLUTheta
from crt.models.image_size import takes_only

__all__ = [
    "cnn2c2f",
    "cnn2c2f_maxmin",
    "cnn2c2f_relutheta",
    "cnn4c2f",
    "cnn4c2f_bn",
    "cnn4c2f_maxmin",
    "cnn4c2f_relutheta",
    "cnn4c3f",
    "cnn4c3f_bn",
    "cnn4c3f_maxmin",
    "cnn4c3f_relutheta",
    "cnn6c2f",
    "cnn6c2f_bn",
    "cnn6c2f_maxmin",
    "cnn6c2f_relutheta",
    "cnn7",
    "cnn7_bn",
]


class _Plan(NamedTuple):
    convs: tuple[tuple[int, int, int], ...]
    """Output channels, kernel size and stride of each convolution; the padding is 1."""
    hidden: tuple[int, ...]
    theta: float
    """Initial thresholds of ReLUTheta; those of MaxMin follow, layer by layer."""
    high: tuple[float, ...]
    low: tuple[float, ...]


# Huang et al. start 6C2F with these thresholds; their code starts 4C3F with 1, whatever its scripts say. They give no
# thresholds of MaxMin for the other networks: each layer takes those of 6C2F's layer of the same kernel and resolution,
# and of the later one where two match.
_6C2F = _Plan(
    ((32, 3, 1), (32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 3, 1), (64, 4, 2)),
    (512,),
    2.0,
    (0.1, 0.1, 0.15, 0.15, 0.2, 0.3, 1.2),
    (-0.1, -0.15, -0.15, -0.15, -0.2, -0.3, -1.2),
)
_4C3F = _Plan(
    ((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)),
    (512, 512),
    1.0,
    (0.1, 0.15, 0.2, 0.3, 1.2, 1.2),
    (-0.15, -0.15, -0.2, -0.3, -1.2, -1.2),
)
# The Duet paper names this network without describing it: 4C3F without its second hidden layer.
_4C2F = _4C3F._replace(hidden=(512,), high=_4C3F.high[:-1], low=_4C3F.low[:-1])
# The network of Shi et al., and of later papers on training with intervals; it has no thresholds.
_CNN7 = _Plan(((64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)), (512,), 0.0, (), ())
_2C2F = _Plan(((16, 4, 2), (32, 4, 2)), (100,), 2.0, (0.15, 0.3, 1.2), (-0.15, -0.3, -1.2))


def _relu(plan: _Plan, layer: int, shape: Sequence[int]) -> list[nn.Module]:
    return [nn.ReLU()]


def _bn(plan: _Plan, layer: int, shape: Sequence[int]) -> list[nn.Module]:
    return [nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0]), nn.ReLU()]


def _relutheta(plan: _Plan, layer: int, shape: Sequence[int]) -> list[nn.Module]:
    return [ReLUTheta(shape, plan.theta)]


def _maxmin(plan: _Plan, layer: int, shape: Sequence[int]) -> list[nn.Module]:
    return [MaxMin(shape, plan.high[layer], plan.low[layer])]


def _chain(plan: _Plan, activation: Callable[[_Plan, int, Sequence[int]], list[nn.Module]]) -> tuple[nn.Module, int]:
    """Network whose layers are each followed by the layers from `activation`.

    Convolutions are initialized as in He et al., 2015, with zero biases.
    """
    inputs, side, layers = 3, 32, []
    for i, (outputs, kernel, stride) in enumerate(plan.convs):
        side //= stride
        layers += [_conv(inputs, outputs, kernel, stride), *activation(plan, i, (outputs, side, side))]
        inputs = outputs
    inputs *= side**2
    layers.append(nn.Flatten())
    for i, outputs in enumerate(plan.hidden, len(plan.convs)):
        layers += [nn.Linear(inputs, outputs), *activation(plan, i, (outputs,))]
        inputs = outputs
    return nn.Sequential(*layers), inputs


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=1)
    nn.init.normal_(conv.weight, std=(2 / (kernel**2 * outputs)) ** 0.5)
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _narrow(body: nn.Module) -> nn.Module:
    """The body with weights that neither widen nor narrow intervals at first, on average, and zero biases.

    Their standard deviation is sqrt(2 pi) over the number of inputs of an output (Shi et al., 2021,
    https://arxiv.org/abs/2103.17268).
    """
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            nn.init.zeros_(layer.get_parameter("bias"))
    return body


@takes_only(32)
def cnn2c2f() -> tuple[nn.Module, int]:
    """Two convolutions of stride 2 and a hidden layer of 100; 214,918 parameters with a head of 10."""
    return _chain(_2C2F, _relu)


@takes_only(32)
def cnn2c2f_relutheta() -> tuple[nn.Module, int]:
    """cnn2c2f with 6,244 ReLUTheta thresholds."""
    return _chain(_2C2F, _relutheta)


@takes_only(32)
def cnn2c2f_maxmin() -> tuple[nn.Module, int]:
    """cnn2c2f with 6,244 MaxMin thresholds."""
    return _chain(_2C2F, _maxmin)


@takes_only(32)
def cnn4c2f() -> tuple[nn.Module, int]:
    """Four convolutions and a hidden layer of 512; 2,204,202 parameters with a head of 10."""
    return _chain(_4C2F, _relu)


@takes_only(32)
def cnn4c2f_relutheta() -> tuple[nn.Module, int]:
    """cnn4c2f with 61,952 ReLUTheta thresholds."""
    return _chain(_4C2F, _relutheta)


@takes_only(32)
def cnn4c2f_maxmin() -> tuple[nn.Module, int]:
    """cnn4c2f with 61,952 MaxMin thresholds."""
    return _chain(_4C2F, _maxmin)


@takes_only(32)
def cnn4c2f_bn() -> tuple[nn.Module, int]:
    """cnn4c2f with BatchNorm after each layer; `crt.models.fold_batchnorm.plain` converts it to a cnn4c2f."""
    return _chain(_4C2F, _bn)


@takes_only(32)
def cnn4c3f() -> tuple[nn.Module, int]:
    """Four convolutions and two hidden layers of 512; 2,466,858 parameters with a head of 10."""
    return _chain(_4C3F, _relu)


@takes_only(32)
def cnn4c3f_relutheta() -> tuple[nn.Module, int]:
    """cnn4c3f with 62,464 ReLUTheta thresholds."""
    return _chain(_4C3F, _relutheta)


@takes_only(32)
def cnn4c3f_maxmin() -> tuple[nn.Module, int]:
    """cnn4c3f with 62,464 MaxMin thresholds."""
    return _chain(_4C3F, _maxmin)


@takes_only(32)
def cnn4c3f_bn() -> tuple[nn.Module, int]:
    """cnn4c3f with BatchNorm after each layer; `crt.models.fold_batchnorm.plain` converts it to a cnn4c3f."""
    return _chain(_4C3F, _bn)


@takes_only(32)
def cnn6c2f() -> tuple[nn.Module, int]:
    """Six convolutions and a hidden layer of 512; 2,250,378 parameters with a head of 10."""
    return _chain(_6C2F, _relu)


@takes_only(32)
def cnn6c2f_relutheta() -> tuple[nn.Module, int]:
    """cnn6c2f with 111,104 ReLUTheta thresholds."""
    return _chain(_6C2F, _relutheta)


@takes_only(32)
def cnn6c2f_maxmin() -> tuple[nn.Module, int]:
    """cnn6c2f with 111,104 MaxMin thresholds."""
    return _chain(_6C2F, _maxmin)


@takes_only(32)
def cnn6c2f_bn() -> tuple[nn.Module, int]:
    """cnn6c2f with BatchNorm after each layer; `crt.models.fold_batchnorm.plain` converts it to a cnn6c2f."""
    return _chain(_6C2F, _bn)


@takes_only(32)
def cnn7() -> tuple[nn.Module, int]:
    """Five convolutions and a hidden layer of 512, which begin as in Shi et al., 2021; 17,190,602 parameters."""
    body, width = _chain(_CNN7, _relu)
    return _narrow(body), width


@takes_only(32)
def cnn7_bn() -> tuple[nn.Module, int]:
    """cnn7 with BatchNorm after each layer (Shi et al., 2021, https://arxiv.org/abs/2103.17268)."""
    body, width = _chain(_CNN7, _bn)
    return _narrow(body), width
