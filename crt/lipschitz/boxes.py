"""Regions of activations: balls and boxes (Lee et al., 2020, https://arxiv.org/abs/2010.06182, section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from crt.lipschitz.chain import AFFINE, Layer, multiply, scale
from crt.models.classifier import Classifier


class Region(NamedTuple):
    """Region of a layer's output over all images of the ball: a ball round `mu` and a box."""

    mu: Tensor
    """The output at the image itself, (B, *shape), as are `low` and `high`."""
    rho: Tensor
    """The ball's radius, of shape () or (B,)."""
    low: Tensor
    high: Tensor


def around(model: Classifier, x: Tensor, eps: float | Tensor) -> Region:
    """The ball of radius `eps` round images `x` (B, C, H, W) in [0, 1], as the network's body sees it."""
    return Region(model.normalize(x), eps * scale(model), model.normalize(x - eps), model.normalize(x + eps))


def through(layer: Layer, region: Region, norms: dict[str, Tensor]) -> Region:
    """The region behind a layer, whose norm is in `norms` if it has weights.

    An activation is monotone, so that it maps the box's ends to ends; and it needs no new box round the ball, because a
    row of the layer before is no longer than that layer's norm.
    """
    module, (mu, rho, low, high) = layer.module, region
    if not isinstance(module, AFFINE):
        return Region(module(mu), rho, module(low), module(high))
    half = (high - low) / 2
    mu, centre, half = module(mu), module(low + half), multiply(module, half, module.weight.abs())
    # A row is the whole kernel, of which the border's neurons see a part.
    reach = rho.view(-1, *[1] * (mu.dim() - 1)) * _beside(torch.linalg.vector_norm(module.weight.flatten(1), dim=1), mu)
    low, high = torch.maximum(centre - half, mu - reach), torch.minimum(centre + half, mu + reach)
    return Region(mu, norms[layer.name] * rho, low, high)


def before_head(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> Region:
    """The region of the features of images `x` (B, C, H, W), the head's inputs, in the ball of radius `eps`."""
    region = around(model, x, eps)
    for layer in layers[:-1]:
        region = through(layer, region, norms)
    return region


def regions(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> list[Region]:
    """The region of each layer's input, the head's last, which takes the memory of all of them."""
    found = [around(model, x, eps)]
    for layer in layers[:-1]:
        found.append(through(layer, found[-1], norms))
    return found


def _beside(values: Tensor, outputs: Tensor) -> Tensor:
    """One value an output channel, so that it fits outputs (B, C, ...)."""
    return values.view(-1, *[1] * (outputs.dim() - 2))
