"""Regularizers of intervals in a ramp (Shi et al., 2021, https://arxiv.org/abs/2103.17268)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.lipschitz.chain import Layer
from crt.lipschitz.intervals import Box

TOLERANCE = 0.5
"""Ratio from which on nothing is penalized, the authors' tau."""


def instability(layers: tuple[Layer, ...], inputs: list[Box]) -> Tensor:
    """Penalty on wide intervals before ReLUs, and on unlike sums of active and inactive neurons; the layers' mean.

    `inputs` holds the intervals of each layer's inputs, (B, *shape), over which sums and means are taken.
    """
    first, penalties = _width(inputs[0]), []
    for layer, box in zip(layers, inputs, strict=True):
        if isinstance(layer.module, nn.ReLU):
            penalties += [_short(first / _width(box).clamp_min(1e-12)), *map(_short, _balances(box))]
    return torch.stack(penalties).sum() / (len(penalties) / 3) if penalties else first.new_zeros(())


def _width(box: Box) -> Tensor:
    """Mean of half of the intervals' widths."""
    low, high = box.ends
    return (high - low).mean() / 2


def _balances(box: Box) -> tuple[Tensor, Tensor]:
    """Ratios, at most 1, of sums and of sums of squares over active neurons and over inactive ones."""
    low, high = box.ends
    centre, active, inactive = (low + high) / 2, low > 0, high < 0
    squares = (centre - centre.mean()).square()
    sums = (centre * active).sum(), -(centre * inactive).sum()
    return _ratio(*sums), _ratio((squares * active).sum(), (squares * inactive).sum())


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """The smaller of two positive numbers over the larger; 0 without a gradient where one kind has no neuron."""
    return torch.minimum(one, other) / torch.maximum(one, other).clamp_min(torch.finfo(one.dtype).tiny)


def _short(ratio: Tensor) -> Tensor:
    return F.relu(TOLERANCE - ratio) / TOLERANCE
