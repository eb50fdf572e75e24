"""Intervals of all neurons over a ball of images (Gowal et al., 2018, https://arxiv.org/abs/1810.12715).

An l-infinity ball is a box of pixels, within [0, 1] as in the authors' code. The first layer with weights meets an l2
ball as a ball, so that its intervals are exact.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.lipschitz.chain import AFFINE, Layer, check, multiply
from crt.lipschitz.statistics import Scaled
from crt.models.classifier import Classifier


class Ball(NamedTuple):
    """Images within `eps` of others: an l2 ball, or a box of pixels in [0, 1]."""

    centre: Tensor
    """Middle of the region, (B, C, H, W) in [0, 1]."""
    half: Tensor | None
    """Half of the box's width, (B, C, H, W); None for an l2 ball."""
    eps: float | Tensor


class Box(NamedTuple):
    """Interval of each neuron, (B, *shape)."""

    low: Tensor
    high: Tensor


class Differences(NamedTuple):
    """The logit of a class minus each other logit, from the next class on, as functions of the features."""

    rows: Tensor
    """Weights (B, classes - 1, width)."""
    constants: Tensor
    """Constants (B, classes - 1)."""


def ball(x: Tensor, eps: float | Tensor, norm: str) -> Ball:
    """Images within `eps` of images `x` (B, C, H, W) in [0, 1] in the norm."""
    if norm == "l2":
        return Ball(x, None, eps)
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    return Ball((low + high) / 2, (high - low) / 2, eps)


def check_intervals(model: Classifier) -> None:
    """Raise ValueError with the name of a layer of the body that has no interval bound."""
    check(model, batchnorm=True)


def boxes(model: Classifier, layers: tuple[Layer, ...], images: Ball) -> list[Box]:
    """Interval of each layer's input over a ball of images, for layers of `crt.lipschitz.statistics.fixed`."""
    centre = model.normalize(images.centre)
    if images.half is None:
        # Up to the first layer with weights, the region is a ball, which the rows of that layer meet as a ball.
        squares = (1 / model.normalize.std.square()).expand(1, *centre.shape[1:])
        half, axes = (images.eps * squares.sqrt()).expand_as(centre), squares
    else:
        half, axes = images.half / model.normalize.std, None
    intervals = [Box(centre - half, centre + half)]
    for layer in layers[:-1]:
        centre, half, axes = _through(layer.module, centre, half, axes, images.eps)
        intervals.append(Box(centre - half, centre + half))
    return intervals


def _through(
    module: nn.Module, centre: Tensor, half: Tensor, axes: Tensor | None, eps: float | Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Middle and half width of the outputs' intervals; `axes` holds the squared semi-axes of an l2 ball of radius 1."""
    if isinstance(module, AFFINE):
        if axes is None:
            half = multiply(module, half, module.weight.abs())
        else:
            # A row of zeros then has no gradient instead of an infinite one.
            rows = multiply(module, axes, module.weight.square()).clamp_min(torch.finfo(centre.dtype).tiny).sqrt()
            half = (eps * rows).expand(len(centre), *rows.shape[1:])
        return module(centre), half, None
    if isinstance(module, Scaled):
        axes = None if axes is None else axes * module.scale.square()
        return module(centre), half * module.scale.abs(), axes
    if isinstance(module, nn.Flatten):
        return module(centre), module(half), None if axes is None else module(axes)
    # Activations are monotone, so that ends of intervals become ends.
    low, high = module(centre - half), module(centre + half)
    return (low + high) / 2, (high - low) / 2, None


def differences(head: nn.Linear, y: Tensor) -> Differences:
    """The logit of `y` (B,) minus each other logit."""
    others = (y[:, None] + torch.arange(1, head.out_features, device=y.device)) % head.out_features
    rows = head.weight.index_select(0, y)[:, None] - _rows(head.weight, others)
    return Differences(rows, head.bias.index_select(0, y)[:, None] - _rows(head.bias, others))


def interval_margins(wanted: Differences, features: Box) -> Tensor:
    """Lower bounds (B, classes - 1) of differences of logits over intervals of the features."""
    centre, half = (features.low + features.high) / 2, (features.high - features.low) / 2
    rows = wanted.rows
    return (rows * centre[:, None]).sum(-1) - (rows.abs() * half[:, None]).sum(-1) + wanted.constants


def worst_losses(least: Tensor, reduction: Literal["none", "mean"] = "none") -> Tensor:
    """Cross-entropy (B,) of the logits whose margins are `least` (B, classes - 1), or its mean."""
    # A class's margin to itself is 0 and comes first.
    target = torch.zeros(len(least), dtype=torch.long, device=least.device)
    return F.cross_entropy(F.pad(-least, (1, 0)), target, reduction=reduction)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the first dimension at each index (B, n)."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])
