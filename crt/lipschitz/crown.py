"""Linear bounds of ReLU networks over l2 balls: CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316).

Intervals are propagated forwards; then a linear lower bound of each margin is propagated backwards from the logits to
the image, with each ReLU between two lines that hold in its interval.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from crt.lipschitz.chain import AFFINE, Layer, check, multiply, transposed
from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier


class Box(NamedTuple):
    """Interval of each neuron, (B, *shape)."""

    low: Tensor
    high: Tensor


def check_relu(model: Classifier) -> None:
    """Raise ValueError with the name of a layer of the body that has no linear bound."""
    check(model)
    for name, module in model.body.named_modules():
        if isinstance(module, ReLUTheta | MaxMin):
            raise ValueError(f"body.{name}: {type(module).__name__} has no CROWN bound (allowed: ReLU)")


def boxes(model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float | Tensor) -> list[Box]:
    """Interval of each layer's input for images `x` (B, C, H, W) in the ball of radius `eps`."""
    centre = model.normalize(x)
    # Up to the first layer with weights, the region is a ball, which the rows of that layer meet as a ball.
    squares = (1 / model.normalize.std.square()).expand(1, *x.shape[1:])
    half = (eps * squares.sqrt()).expand_as(centre)
    ball: Tensor | None = squares
    intervals = [Box(centre - half, centre + half)]
    for layer in layers[:-1]:
        module = layer.module
        if isinstance(module, nn.ReLU):
            low, high, ball = module(centre - half), module(centre + half), None
            centre, half = (low + high) / 2, (high - low) / 2
        elif isinstance(module, AFFINE):
            if ball is None:
                half = multiply(module, half, module.weight.abs())
            else:
                # A row of zeros then has no gradient instead of an infinite one.
                rows = multiply(module, ball, module.weight.square()).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
                half, ball = (eps * rows).expand(len(x), *rows.shape[1:]), None
            centre = module(centre)
        else:
            centre, half, ball = module(centre), module(half), None if ball is None else module(ball)
        intervals.append(Box(centre - half, centre + half))
    return intervals


def margins(
    model: Classifier,
    layers: tuple[Layer, ...],
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    beta: float | Tensor = 1.0,
) -> Tensor:
    """Lower bounds (B, classes - 1) of the logit of `y` (B,) minus each other logit, in the ball of radius `eps`.

    They are the mean of backward bounds, with weight `beta`, and bounds of intervals alone, with the remaining weight.
    """
    inputs, head = boxes(model, layers, x, eps), model.head
    others = (y[:, None] + torch.arange(1, head.out_features, device=y.device)) % head.out_features
    rows = head.weight.index_select(0, y)[:, None] - _rows(head.weight, others)
    constants = head.bias.index_select(0, y)[:, None] - _rows(head.bias, others)
    bounds = x.new_zeros(())
    # Bounds with weight zero are skipped, if `beta` is a number; a tensor's value is not read.
    both = isinstance(beta, Tensor)
    if both or beta < 1:
        centre, half = (inputs[-1].low + inputs[-1].high) / 2, (inputs[-1].high - inputs[-1].low) / 2
        forward = (rows * centre[:, None]).sum(-1) - (rows.abs() * half[:, None]).sum(-1) + constants
        bounds = (1 - beta) * forward
    if both or beta > 0:
        bounds = bounds + beta * _backward(model, layers, inputs, rows, constants, x, eps)
    return bounds


def _backward(
    model: Classifier,
    layers: tuple[Layer, ...],
    inputs: list[Box],
    slopes: Tensor,
    constants: Tensor,
    x: Tensor,
    eps: float | Tensor,
) -> Tensor:
    """Lower bounds (B, rows) of `slopes` (B, rows, width) times the features plus `constants` (B, rows)."""
    for layer, box in reversed(list(zip(layers[:-1], inputs[:-1], strict=True))):
        module = layer.module
        if isinstance(module, AFFINE):
            if module.bias is not None:
                bias = module.bias.view(-1, *[1] * (slopes.dim() - 3)).expand(slopes.shape[2:])
                constants = constants + slopes.flatten(2) @ bias.flatten()
            slopes = transposed(module, slopes.flatten(0, 1), layer.shape, module.weight)
            slopes = slopes.view(*constants.shape, *layer.shape)
        elif isinstance(module, nn.ReLU):
            slopes, more = _relu(slopes, box)
            constants = constants + more
        else:
            slopes = slopes.view(*constants.shape, *layer.shape)
    slopes = slopes / model.normalize.std
    values = _along(slopes, (x - model.normalize.mean)[:, None])
    return values + constants - eps * torch.linalg.vector_norm(slopes.flatten(2), dim=2)


def _relu(slopes: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Slopes (B, rows, *shape) before a ReLU and a constant (B, rows) that bound the slopes behind it from below."""
    low, high = box.low.clamp_max(0)[:, None], box.high.clamp_min(0)[:, None]
    # The upper line goes through the interval's ends; a neuron that is always 0 has slope 0 instead.
    upper = high / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    # The lower line is 0 or the identity, whichever has the smaller area to the upper line.
    lower = (high > -low).to(low.dtype)
    negative = slopes.clamp_max(0) * upper
    return slopes.clamp_min(0) * lower + negative, -_along(negative, low)


def _along(slopes: Tensor, point: Tensor) -> Tensor:
    """Products (B, rows) of slopes (B, rows, *shape) and each image's point (B, 1, *shape)."""
    # An elementwise product followed by a sum would need as much memory as the slopes.
    return (slopes.flatten(2) @ point.flatten(2).mT).squeeze(-1)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the first dimension at each index (B, n)."""
    return values.index_select(0, index.flatten()).view(*index.shape, *values.shape[1:])
