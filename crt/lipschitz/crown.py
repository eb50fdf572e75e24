"""Linear bounds of ReLU networks over balls: CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316).

Intervals are propagated forwards; then a linear lower bound of each margin is propagated backwards from the logits to
the image, with each ReLU between two lines that hold in its interval.
"""

import torch
from torch import Tensor, nn

from crt.lipschitz.chain import AFFINE, Layer, transposed
from crt.lipschitz.intervals import Ball, Box, boxes, check_intervals, differences, interval_margins
from crt.lipschitz.statistics import Scaled
from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier


def check_relu(model: Classifier) -> None:
    """Raise ValueError with the name of a layer of the body that has no linear bound."""
    check_intervals(model)
    for name, module in model.body.named_modules():
        if isinstance(module, ReLUTheta | MaxMin):
            raise ValueError(f"body.{name}: {type(module).__name__} has no CROWN bound (allowed: ReLU)")


def margins(
    model: Classifier,
    layers: tuple[Layer, ...],
    images: Ball,
    y: Tensor,
    beta: float | Tensor = 1.0,
    inputs: list[Box] | None = None,
) -> Tensor:
    """Lower bounds (B, classes - 1) of the logit of `y` (B,) minus each other logit, over a ball of images.

    They are the mean of backward bounds, with weight `beta`, and bounds of intervals alone, with the remaining weight.
    `inputs` holds the intervals of `boxes`, if they are known.
    """
    inputs, wanted = inputs or boxes(model, layers, images), differences(model.head, y)
    bounds = images.centre.new_zeros(())
    # Bounds with weight zero are skipped, if `beta` is a number; a tensor's value is not read.
    both = isinstance(beta, Tensor)
    if both or beta < 1:
        bounds = (1 - beta) * interval_margins(wanted, inputs[-1])
    if both or beta > 0:
        bounds = bounds + beta * _backward(model, layers, inputs, *wanted, images)
    return bounds


def _backward(
    model: Classifier,
    layers: tuple[Layer, ...],
    inputs: list[Box],
    slopes: Tensor,
    constants: Tensor,
    images: Ball,
) -> Tensor:
    """Lower bounds (B, rows) of `slopes` (B, rows, width) times the features plus `constants` (B, rows)."""
    for layer, box in reversed(list(zip(layers[:-1], inputs[:-1], strict=True))):
        module = layer.module
        if isinstance(module, AFFINE):
            if module.bias is not None:
                constants = constants + _shifted(slopes, module.bias.view(-1, *[1] * (slopes.dim() - 3)))
            slopes = transposed(module, slopes.flatten(0, 1), layer.shape, module.weight)
            slopes = slopes.view(*constants.shape, *layer.shape)
        elif isinstance(module, nn.ReLU):
            slopes, more = _relu(slopes, box)
            constants = constants + more
        elif isinstance(module, Scaled):
            constants, slopes = constants + _shifted(slopes, module.shift), slopes * module.scale
        else:
            slopes = slopes.view(*constants.shape, *layer.shape)
    slopes = slopes / model.normalize.std
    values = _along(slopes, (images.centre - model.normalize.mean)[:, None]) + constants
    if images.half is None:
        return values - images.eps * torch.linalg.vector_norm(slopes.flatten(2), dim=2)
    return values - _along(slopes.abs(), images.half[:, None])


def _shifted(slopes: Tensor, shift: Tensor) -> Tensor:
    """Products (B, rows) of slopes (B, rows, *shape) and one shift for each channel."""
    return slopes.flatten(2) @ shift.expand(slopes.shape[2:]).flatten()


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
