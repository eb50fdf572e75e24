"""Boxes and balls of activations, and worst translations (Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.plain_eager.chains import PowerIterations, has_weights, layers, linear, per_channel, scale, weights
from crt.models.classifier import Classifier

__all__: list[str] = []


class Region(NamedTuple):
    """Outputs (B, ...) at the images, radius of the ball around them, and ends of the box."""

    mu: Tensor
    rho: Tensor
    low: Tensor
    high: Tensor


class Passed(NamedTuple):
    """A layer, its input's region and its output's."""

    layer: nn.Module
    before: Region
    after: Region
    norm: Tensor | None
    """Norm of a layer with weights."""


def propagate(model: Classifier, x: Tensor, eps: float, norms: PowerIterations) -> list[Passed]:
    """The layers of the body with their regions, for images `x` in a ball of radius `eps` (section 3)."""
    normalize = model.normalize
    region = Region(normalize(x), eps * scale(model), normalize(x - eps), normalize(x + eps))
    passed = []
    for position, layer in enumerate(layers(model.body)):
        norm = norms.norm(position, layer, region.mu.shape[1:]) if has_weights(layer) else None
        after = _activation(layer, region) if norm is None else _affine(layer, region, norm)
        passed.append(Passed(layer, region, after, norm))
        region = after
    return passed


def _affine(layer: nn.Module, region: Region, norm: Tensor) -> Region:
    """Box of the box, within the box around the ball, which the rows' lengths give."""
    mu, rho, low, high = region
    weight = weights(layer)
    centre, half = layer((low + high) / 2), linear(layer, (high - low) / 2, weight.abs())
    mu = layer(mu)
    reach = rho * per_channel(weight.flatten(1).norm(dim=1), mu)
    return Region(mu, rho * norm, torch.max(centre - half, mu - reach), torch.min(centre + half, mu + reach))


def _activation(layer: nn.Module, region: Region) -> Region:
    """Box of the box, within the box of the ball, whose radius no coordinate exceeds."""
    mu, rho, low, high = region
    if isinstance(layer, nn.Flatten):
        return Region(layer(mu), rho, layer(low), layer(high))
    low, high = torch.max(layer(low), layer(mu - rho)), torch.min(layer(high), layer(mu + rho))
    return Region(layer(mu), rho, low, high)


def translation(head: nn.Linear, y: Tensor, region: Region) -> Tensor:
    """Largest changes (B, classes) of each logit relative to that of `y`, over ball and box, after one round.

    Section 4, for all pairs of classes at once, as in the authors' code; those of `y` are returned. The ball's radius
    is () or (B,).
    """
    mu, rho, low, high = region
    c = head.weight[:, None] - head.weight[None]
    up, down = (high - mu).clamp(min=0)[:, None, None], (low - mu).clamp(max=0)[:, None, None]
    rho = rho.view(-1, 1, 1, 1)
    d = rho * c / c.norm(dim=2, keepdim=True).clamp(min=torch.finfo(c.dtype).tiny)
    outside = (d >= up) | (d <= down)
    clipped = torch.where(outside, torch.max(torch.min(d, up), down), 0)
    free = torch.where(outside, 0, d)
    room = (rho**2 - (clipped**2).sum(3, keepdim=True)).clamp(min=0)
    size = free.norm(dim=3, keepdim=True)
    # Where nothing is free, or no length is left, the free part is 0 and so is its gradient.
    some = (room > 0) & (size > 0)
    stretch = torch.where(some, room, 1).sqrt() / torch.where(some, size, 1)
    d = clipped + torch.where(some, free * stretch, 0)
    every = (c * d).sum(3)
    return every[torch.arange(len(y), device=y.device), :, y]
