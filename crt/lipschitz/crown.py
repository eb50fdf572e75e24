"""Linear bounds of ReLU networks over balls: CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316).

Intervals are propagated forwards; then a linear lower bound of each margin is propagated backwards from the logits to
the image, with each ReLU between two lines that hold in its interval.
"""

import torch
from torch import Tensor, nn

from crt.lipschitz.chain import AFFINE, Layer, transposed
from crt.lipschitz.intervals import Ball, Box, boxes, check_intervals, differences, interval_margins
from crt.lipschitz.lines import Lines, along
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
    for k in reversed(range(len(layers) - 1)):
        layer, module = layers[k], layers[k].module
        if isinstance(module, AFFINE):
            # A ReLU behind the layer has added its bias already.
            if module.bias is not None and not isinstance(layers[k + 1].module, nn.ReLU):
                constants = constants + along(slopes, _of_channels(module.bias, slopes))
            slopes = transposed(module, slopes.flatten(0, 1), layer.shape, module.weight)
            slopes = slopes.view(*constants.shape, *layer.shape)
        elif isinstance(module, nn.ReLU):
            before = layers[k - 1].module if k else None
            bias = _of_channels(before.bias, slopes) if isinstance(before, AFFINE) and before.bias is not None else None
            slopes, more = Lines.apply(slopes, *_lines(inputs[k]), bias)
            constants = constants + more
        elif isinstance(module, Scaled):
            constants, slopes = constants + along(slopes, module.shift), slopes * module.scale
        else:
            slopes = slopes.view(*constants.shape, *layer.shape)
    slopes = slopes / model.normalize.std
    values = along(slopes, (images.centre - model.normalize.mean)[:, None]) + constants
    if images.half is None:
        return values - images.eps * torch.linalg.vector_norm(slopes.flatten(2), dim=2)
    return values - along(slopes.abs(), images.half[:, None])


def _lines(box: Box) -> tuple[Tensor, Tensor, Tensor]:
    """For ReLUs in a box: where the upper line is 0, its slope, and the lower line's slope, each (B, 1, *shape)."""
    ends = box.ends
    low, high = ends[0].clamp_max(0)[:, None], ends[1].clamp_min(0)[:, None]
    # The upper line goes through the interval's ends; a neuron that is always 0 has slope 0 instead.
    upper = high / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    # The lower line is 0 or the identity, whichever has the smaller area to the upper line.
    return low, upper, (high > -low).to(low.dtype)


def _of_channels(bias: Tensor, slopes: Tensor) -> Tensor:
    """A layer's bias, shaped to broadcast over slopes (B, rows, channels, ...)."""
    return bias.view(-1, *[1] * (slopes.dim() - 3))
