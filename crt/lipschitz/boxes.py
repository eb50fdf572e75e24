"""Regions of activations: balls and boxes (Lee et al., 2020, https://arxiv.org/abs/2010.06182, section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from crt.lipschitz.affine import Affine
from crt.lipschitz.chain import AFFINE, Layer, scale
from crt.models.classifier import Classifier


class Region(NamedTuple):
    """Region of a layer's output over all images of the ball: a ball around `mu`, and a box."""

    mu: Tensor
    """Output at the image itself, (B, *shape), like `low` and `high`."""
    rho: Tensor
    """Radius of the ball, of shape () or (B,)."""
    low: Tensor
    high: Tensor
    points: Tensor | None = None
    """`mu`, `low` and `high` as one batch (3B, *shape), where they come from a layer."""


def around(model: Classifier, x: Tensor, eps: float | Tensor) -> Region:
    """Ball of radius `eps` around images `x` (B, C, H, W) in [0, 1], as input of the network's body."""
    return Region(model.normalize(x), eps * scale(model), model.normalize(x - eps), model.normalize(x + eps))


def through(layer: Layer, region: Region, norms: dict[str, Tensor]) -> Region:
    """Region of a layer's output; `norms` holds the norm of a layer with weights.

    An activation is monotone, so that it maps the box's ends to ends; it needs no new box around the ball, because a
    row of the previous layer is no longer than that layer's norm.
    """
    module, (mu, rho, low, high, points) = layer.module, region
    if points is None:
        points = torch.cat([mu, low, high])
    if not isinstance(module, AFFINE):
        points = module(points)
    else:
        points = Affine.apply(points, module.weight, module.bias, rho, module)
        rho = norms[layer.name] * rho
    mu, low, high = points.chunk(3)
    return Region(mu, rho, low, high, points)


def before_head(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> Region:
    """Region of the features of images `x` (B, C, H, W), the head's input, over the ball of radius `eps`."""
    region = around(model, x, eps)
    for layer in layers[:-1]:
        region = through(layer, region, norms)
    return region


def regions(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> list[Region]:
    """Region of each layer's input, the head's last; they are all in memory at once."""
    inputs = [around(model, x, eps)]
    for layer in layers[:-1]:
        inputs.append(through(layer, inputs[-1], norms))
    return inputs
