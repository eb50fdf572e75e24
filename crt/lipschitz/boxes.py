"""Regions of activations: balls and boxes (Lee et al., 2020, https://arxiv.org/abs/2010.06182, section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from crt.lipschitz.affine import Affine
from crt.lipschitz.balls import Ball, balls
from crt.lipschitz.chain import Layer, scale
from crt.models.classifier import Classifier


class Region(NamedTuple):
    """Region of a layer's output over all images of the ball: a ball around `mu`, and a box."""

    points: Tensor
    """The box's lower ends, `mu` and the box's upper ends as one batch, (3B, *shape)."""
    rho: Tensor
    """Radius of the ball, of shape () or (B,)."""

    @classmethod
    def of(cls, mu: Tensor, rho: Tensor, low: Tensor, high: Tensor) -> "Region":
        """Region with a centre, a radius and ends."""
        return cls(torch.cat([low, mu, high]), rho)

    @property
    def mu(self) -> Tensor:
        """Output at the image itself, (B, *shape), like `low` and `high`."""
        images = len(self.points) // 3
        return self.points[images : 2 * images]

    @property
    def low(self) -> Tensor:
        """Lower ends of the box."""
        return self.points[: len(self.points) // 3]

    @property
    def high(self) -> Tensor:
        """Upper ends of the box."""
        return self.points[2 * (len(self.points) // 3) :]


def around(model: Classifier, x: Tensor, eps: float | Tensor) -> Region:
    """Ball of radius `eps`, () or (B,), around images `x` (B, C, H, W) in [0, 1], as input of the network's body."""
    steps = torch.linspace(-1, 1, 3, dtype=x.dtype, device=x.device)
    steps = (steps[:, None] * eps).view(3, -1, *[1] * (x.dim() - 1))
    return Region(model.normalize((x + steps).flatten(0, 1)), eps * scale(model))


def through(layer: Layer, region: Region, ball: Ball | None) -> Region:
    """Region of a layer's output; a layer with weights needs its ball.

    An activation is monotone, so that it maps the box's ends to ends; it needs no new box around the ball, because a
    row of the previous layer is no longer than that layer's norm.
    """
    module, points = layer.module, region.points
    if ball is None:
        return Region(module(points), region.rho)
    points = Affine.apply(points, ball.weight, layer.affine.bias, ball.halves, ball.reach, ball.scale, module)
    return Region(points, ball.rho)


def before_head(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> Region:
    """Region of the features of images `x` (B, C, H, W), the head's input, over the ball of radius `eps`."""
    region = around(model, x, eps)
    of = balls(layers[:-1], region.rho, norms)
    for layer in layers[:-1]:
        region = through(layer, region, of.get(layer.name))
    return region


def regions(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor, norms: dict[str, Tensor]
) -> list[Region]:
    """Region of each layer's input, the head's last; they are all in memory at once."""
    inputs = [around(model, x, eps)]
    of = balls(layers[:-1], inputs[0].rho, norms)
    for layer in layers[:-1]:
        inputs.append(through(layer, inputs[-1], of.get(layer.name)))
    return inputs
