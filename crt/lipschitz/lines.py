"""Linear bounds taken backwards through ReLUs, each between two lines, with gradients in closed form.

Slopes have a copy of a layer for each other class. Of tensors of that size, only the slopes are kept for gradients.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IN_CACHE = 2**18
"""Slopes that a CPU takes at a time, 1 MiB in float32, so that they stay in its cache."""


class Lines(torch.autograd.Function):
    """Slopes (B, rows, *shape) before ReLUs and constants (B, rows), which bound slopes behind them from below.

    A positive slope meets the lower line, `lower` times the input; a negative one meets the upper line, `upper` times
    the input minus `low`; all are (B, 1, *shape). `shift`, which broadcasts over slopes, is to be added to the inputs.
    """

    @staticmethod
    def forward(ctx, slopes: Tensor, low: Tensor, upper: Tensor, lower: Tensor, shift: Tensor | None):
        out, constants = torch.empty_like(slopes), slopes.new_empty(slopes.shape[:2])
        for part in _parts(slopes):
            now, to, negative = slopes[part], out[part], slopes[part].clamp_max(0)
            torch.mul(now, lower[part], out=to).addcmul_(negative, upper[part] - lower[part])
            torch.neg(along(negative, upper[part] * low[part]), out=constants[part])
            if shift is not None:
                constants[part].add_(along(to, shift))
        ctx.save_for_backward(slopes, low, upper, lower, shift)
        return out, constants

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out, g_constants):
        slopes, low, upper, lower, shift = ctx.saved_tensors
        to_slopes, to_low, to_upper = (torch.empty_like(x) for x in (slopes, low, upper))
        to_shift = None if shift is None else torch.zeros_like(shift)
        for part in _parts(slopes):
            lines = low[part], upper[part], lower[part]
            to_low[part], to_upper[part], more = _backward(
                slopes[part], *lines, shift, g_out[part], g_constants[part], to_slopes[part]
            )
            if to_shift is not None and more is not None:
                to_shift += more.sum_to_size(to_shift.shape)
        return to_slopes, to_low, to_upper, None, to_shift


def _backward(
    slopes: Tensor,
    low: Tensor,
    upper: Tensor,
    lower: Tensor,
    shift: Tensor | None,
    g: Tensor,
    constants: Tensor,
    out: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of `low`, of `upper` and, if there is a shift, of each image's; the slopes' is written to `out`."""
    weights = constants.view(*constants.shape, *[1] * (slopes.dim() - 2))
    if shift is not None:
        g = torch.addcmul(g, weights, shift)
    negative, rest, change = slopes.clamp_max(0), upper * low, upper - lower
    summed = _combined(constants, negative)
    # Both kinds of slopes have the gradient of a negative one; then positive ones have theirs instead.
    torch.mul(g, change.neg(), out=out).addcmul_(weights, rest)
    torch.ops.aten.threshold_backward.grad_input(out, slopes, 0, grad_input=out)
    out.addcmul_(g, upper).addcmul_(weights, rest, value=-1)
    g_upper = (negative * g).sum(1, keepdim=True).addcmul_(low, summed, value=-1)
    g_shift = None if shift is None else lower * _combined(constants, slopes) + change * summed
    return -upper * summed, g_upper, g_shift


def along(slopes: Tensor, point: Tensor) -> Tensor:
    """Products (B, rows) of slopes (B, rows, *shape) and a point, which broadcasts over them, the same for all rows."""
    # An elementwise product followed by a sum would need as much memory as the slopes.
    point = point.expand(len(slopes), 1, *slopes.shape[2:])
    return (_flat(slopes, slopes) @ _flat(point, slopes).mT).squeeze(-1)


def _combined(weights: Tensor, slopes: Tensor) -> Tensor:
    """Sums (B, 1, *shape) of slopes (B, rows, *shape) with weights (B, rows)."""
    sums = weights[:, None] @ _flat(slopes, slopes)
    if not _channels_last(slopes):
        return sums.view(len(slopes), 1, *slopes.shape[2:])
    return sums.view(len(slopes), 1, *slopes.shape[3:], slopes.shape[2]).movedim(-1, 2)


def _flat(values: Tensor, like: Tensor) -> Tensor:
    """Values (B, rows, *shape) as (B, rows, size), in the order in which slopes `like` lie in memory."""
    return (values.movedim(2, -1) if _channels_last(like) else values).flatten(2)


def _channels_last(slopes: Tensor) -> bool:
    return slopes.dim() == 5 and slopes.stride(2) == 1 and slopes.shape[2] > 1


def _parts(slopes: Tensor) -> Iterator[slice]:
    """Slices of images: all at once, but a few on a CPU, where a compiler sees to its cache itself."""
    images = len(slopes)
    step = max(1, images)
    if slopes.device.type == "cpu" and not torch.compiler.is_compiling():
        step = max(1, IN_CACHE // max(1, slopes[:1].numel()))
    for k in range(0, images, step):
        yield slice(k, k + step)
