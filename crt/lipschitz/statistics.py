"""Chains of layers in which each BatchNorm is an affine map, with the statistics of one batch or the running ones."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crt.attacks.common import wide
from crt.lipschitz.chain import Layer, chain, exact
from crt.models.classifier import Classifier


class Scaled(nn.Module):
    """A BatchNorm with known statistics: a scale and a shift for each channel, shaped like the channels of an image."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor):
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Fixed(NamedTuple):
    """Layers of a network, and the logits (B, classes) of the pass that took statistics, if there was one."""

    layers: tuple[Layer, ...]
    known: Tensor | None

    def logits(self, model: Classifier, x: Tensor) -> Tensor:
        """Logits (B, classes) of the same images, at least float32; without known ones, by a pass of the network."""
        return wide(model(x)) if self.known is None else self.known


def fixed(model: Classifier, x: Tensor) -> Fixed:
    """Layers of the network, in which each BatchNorm is `Scaled`.

    In train mode, BatchNorm normalizes by the statistics of images `x` (B, C, H, W), through which bounds are
    differentiated, and updates its running ones once; in eval mode, it has its running statistics.
    """
    layers = chain(model, x.shape[1:], batchnorm=True)
    if not any(isinstance(layer.module, _BatchNorm) and layer.module.training for layer in layers):
        return Fixed(tuple(layer._replace(module=_running(layer)) for layer in layers), None)
    model.train_passes += 1
    with exact(x.device):
        now, found = model.normalize(x), []
        for layer in layers:
            found.append(layer._replace(module=_batch(layer, now)))
            now = layer.module(now)
    return Fixed(tuple(found), now)


def _running(layer: Layer) -> nn.Module:
    """The layer; a BatchNorm by its running statistics."""
    match layer.module:
        case _BatchNorm(running_mean=Tensor() as mean, running_var=Tensor() as variance) as norm:
            return _scaled(norm, mean, variance, layer.shape)
    return layer.module


def _batch(layer: Layer, x: Tensor) -> nn.Module:
    """The layer; a BatchNorm in train mode by the statistics of its inputs `x` (B, *shape)."""
    norm = layer.module
    if not isinstance(norm, _BatchNorm) or not norm.training:
        return _running(layer)
    variance, mean = torch.var_mean(x, dim=[0, *range(2, x.dim())], correction=0)
    return _scaled(norm, mean, variance, layer.shape)


def _scaled(norm: _BatchNorm, mean: Tensor, variance: Tensor, shape: tuple[int, ...]) -> Scaled:
    scale = norm.weight * (variance + norm.eps).rsqrt()
    ends = (-1, *[1] * (len(shape) - 1))
    return Scaled(scale.view(ends), (norm.bias - mean * scale).view(ends))
