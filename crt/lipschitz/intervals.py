"""Intervals of all neurons over a ball of images (Gowal et al., 2018, https://arxiv.org/abs/1810.12715).

An l-infinity ball is a box of pixels, within [0, 1] as in the authors' code. The first layer with weights meets an l2
ball as a ball, so that its intervals are exact.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.lipschitz.affine import AffineBox
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
    """Interval of each neuron."""

    points: Tensor
    """The lower ends and the upper ends as one batch, (2B, *shape)."""

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends, (B, *shape) each."""
        # Gradients of slices, one for each end, would fill the other's place with zeros.
        low, high = self.points.chunk(2)
        return low, high


class Ellipsoid(NamedTuple):
    """Image of an l2 ball before the first layer with weights."""

    centre: Tensor
    """Middle, (B, *shape)."""
    squares: Tensor
    """Squares of the semi-axes for a ball of radius 1, (1, *shape)."""


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
    half = images.eps if images.half is None else images.half
    intervals = [Box(model.normalize(torch.cat([images.centre - half, images.centre + half])))]
    ellipsoid = None
    if images.half is None:
        centre = model.normalize(images.centre)
        ellipsoid = Ellipsoid(centre, (1 / model.normalize.std.square()).expand(1, *centre.shape[1:]))
    for layer in layers[:-1]:
        box, ellipsoid = _through(layer.module, intervals[-1], ellipsoid, images.eps)
        intervals.append(box)
    return intervals


def _through(
    module: nn.Module, box: Box, ellipsoid: Ellipsoid | None, eps: float | Tensor
) -> tuple[Box, Ellipsoid | None]:
    """Intervals of the outputs, and the ellipsoid that goes on to the next layer."""
    if isinstance(module, nn.Flatten):
        return Box(module(box.points)), ellipsoid and Ellipsoid(*map(module, ellipsoid))
    if isinstance(module, Scaled):
        # A negative scale exchanges the ends.
        ends = module(box.points).chunk(2)
        after = Box(torch.cat([torch.minimum(*ends), torch.maximum(*ends)]))
        if ellipsoid is not None:
            ellipsoid = Ellipsoid(module(ellipsoid.centre), ellipsoid.squares * module.scale.square())
        return after, ellipsoid
    if not isinstance(module, AFFINE):
        # Activations are monotone, so that ends of intervals become ends.
        return Box(module(box.points)), None
    if ellipsoid is None:
        return Box(AffineBox.apply(box.points, module.weight, module.bias, module)), None
    # The rows of the layer meet the ball as a ball. A row of zeros then has no gradient instead of an infinite one.
    lengths = multiply(module, ellipsoid.squares, module.weight.square())
    half, mu = eps * lengths.clamp_min(torch.finfo(lengths.dtype).tiny).sqrt(), module(ellipsoid.centre)
    return Box(torch.cat([mu - half, mu + half])), None


def differences(head: nn.Linear, y: Tensor) -> Differences:
    """The logit of `y` (B,) minus each other logit."""
    others = (y[:, None] + torch.arange(1, head.out_features, device=y.device)) % head.out_features
    rows = head.weight.index_select(0, y)[:, None] - _rows(head.weight, others)
    return Differences(rows, head.bias.index_select(0, y)[:, None] - _rows(head.bias, others))


def interval_margins(wanted: Differences, features: Box) -> Tensor:
    """Lower bounds (B, classes - 1) of differences of logits over intervals of the features."""
    (low, high), rows = features.ends, wanted.rows
    centre, half = (low + high) / 2, (high - low) / 2
    return (rows * centre[:, None]).sum(-1) - (rows.abs() * half[:, None]).sum(-1) + wanted.constants


def worst_losses(least: Tensor, reduction: Literal["none", "mean"] = "none") -> Tensor:
    """Cross-entropy (B,) of the logits whose margins are `least` (B, classes - 1), or its mean."""
    # A class's margin to itself is 0 and comes first.
    target = torch.zeros(len(least), dtype=torch.long, device=least.device)
    return F.cross_entropy(F.pad(-least, (1, 0)), target, reduction=reduction)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the first dimension at each index (B, n)."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])
