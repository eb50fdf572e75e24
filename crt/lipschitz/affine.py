"""A layer with weights on boxes, alone or with balls, with its gradients in closed form."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crt.lipschitz.chain import multiply


class Affine(torch.autograd.Function):
    """Map points (3B, *shape), the lower ends of boxes, the centres of balls and the upper ends, through a layer.

    The box of the output lies within the image of the box and around that of the ball, which reaches from its centre by
    `reach`, (2, channels) or (2, B, channels), the negative one first. `halves` are half of the weights' absolute
    values, and `scale` is the tensor -1, -0.5, 0, 0.5, 1. Where both have the same end, each has half of its gradient,
    as with `torch.maximum`.
    """

    @staticmethod
    def forward(
        ctx,
        points: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        halves: Tensor,
        reach: Tensor,
        scale: Tensor,
        module: nn.Conv2d | nn.Linear,
    ):
        low, mu, high = points.chunk(3)
        width, centres = high - low, _like(mu, 2)
        # The ball's centre and the box's pass through the layer as one batch.
        centres[: len(mu)].copy_(mu)
        torch.lerp(low, high, 0.5, out=centres[len(mu) :])
        mu, centre = module(centres).chunk(2)
        half = multiply(module, width, halves)
        box, ball, out = _like(mu, 2), _like(mu, 2), _like(mu, 3)
        signs = _beside(scale[::4, None], mu)
        torch.addcmul(centre, half, signs, out=box.unflatten(0, (2, -1)))
        torch.add(mu, _beside(reach, mu), out=ball.unflatten(0, (2, -1)))
        lower, middle, upper = out.chunk(3)
        middle.copy_(mu)
        torch.maximum(box[: len(mu)], ball[: len(mu)], out=lower)
        torch.minimum(box[len(mu) :], ball[len(mu) :], out=upper)
        if any(ctx.needs_input_grad):
            # The part of the larger of both ends: the box's share below, and the ball's above.
            larger = torch.heaviside(box.sub_(ball), scale[3])
            ctx.save_for_backward(width, centres, weight, halves, larger)
            ctx.module, ctx.biased, ctx.single = module, bias is not None, reach.dim() == 2
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        width, centres, weight, halves, larger = ctx.saved_tensors
        to_points = ctx.needs_input_grad[0]
        g = g.unflatten(0, (3, -1))
        images, parts = g.shape[1], _like(g[0], 4).unflatten(0, (4, -1))
        ends, larger = g[::2], larger.unflatten(0, (2, -1))
        torch.mul(ends, larger, out=parts[2:])
        torch.sub(ends, parts[2:], out=parts[:2])
        ball_low, box_high, box_low, ball_high = parts
        to_centres = _like(g[0], 2)
        torch.add(g[1], ball_low, out=to_centres[:images]).add_(ball_high)
        torch.add(box_low, box_high, out=to_centres[images:])
        g_centres, g_weight, g_bias = backwards(ctx.module, to_centres, centres, weight, ctx.biased, to_points)
        g_width, g_halves, _ = backwards(ctx.module, box_high - box_low, width, halves, False, to_points)
        over = ([1] if ctx.single else []) + [*range(3, parts.dim())]
        g_reach = parts[::3].sum(over) if over else parts[::3]
        g_points = _points(g_centres, g_width) if g_centres is not None and g_width is not None else None
        return g_points, g_weight, g_bias, g_halves, g_reach, None, None


class AffineBox(torch.autograd.Function):
    """Map points (2B, *shape), the lower ends of boxes and then the upper ones, through a layer."""

    @staticmethod
    def forward(ctx, points: Tensor, weight: Tensor, bias: Tensor | None, module: nn.Conv2d | nn.Linear):
        low, high = points.chunk(2)
        centre = torch.lerp(low, high, 0.5)
        half = centre - low
        mu, reach = module(centre), multiply(module, half, weight.abs())
        out = _like(mu, 2)
        lower, upper = out.chunk(2)
        torch.sub(mu, reach, out=lower)
        torch.add(mu, reach, out=upper)
        ctx.save_for_backward(centre, half, weight)
        ctx.module, ctx.biased = module, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        centre, half, weight = ctx.saved_tensors
        low, high = g.chunk(2)
        to_points = ctx.needs_input_grad[0]
        g_centre, g_weight, g_bias = backwards(ctx.module, low + high, centre, weight, ctx.biased, to_points)
        g_half, g_abs, _ = backwards(ctx.module, high - low, half, weight.abs(), False, to_points)
        g_weight.addcmul_(weight.sign(), g_abs)
        if g_centre is None or g_half is None:
            return None, g_weight, g_bias, None
        out = _like(g_centre, 2)
        lower, upper = out.chunk(2)
        # The centre is the mean of the ends, and the half width is that mean minus the lower end.
        torch.lerp(g_centre, g_half, 0.5, out=upper)
        torch.sub(g_centre, upper, out=lower)
        return out, g_weight, g_bias, None


def _points(centres: Tensor, width: Tensor) -> Tensor:
    """Gradient of the points from those of both centres and of the box's width."""
    mu, centre = centres.chunk(2)
    out = _like(mu, 3)
    lower, middle, upper = out.chunk(3)
    middle.copy_(mu)
    torch.add(width, centre, alpha=0.5, out=upper)
    torch.sub(centre, upper, out=lower)
    return out


def _like(x: Tensor, times: int) -> Tensor:
    """An empty tensor for so many times the images of `x`, in the same memory order."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty((times * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=order)


def backwards(
    module: nn.Conv2d | nn.Linear, g: Tensor, x: Tensor, weight: Tensor, biased: bool, to_x: bool
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of the inputs, the weight and the bias of a layer."""
    if isinstance(module, nn.Linear):
        return g @ weight if to_x else None, g.T @ x, g.sum(0) if biased else None
    return torch.ops.aten.convolution_backward(
        g, x, weight, [len(weight)] if biased else None, module.stride, module.padding, module.dilation, False, (0, 0),
        module.groups, (to_x, True, biased),
    )  # fmt: skip


def _beside(reach: Tensor, outputs: Tensor) -> Tensor:
    """Values of channels, shaped to broadcast over outputs (B, channels, ...)."""
    reach = reach if reach.dim() == 3 else reach[:, None]
    return reach.view(*reach.shape, *[1] * (outputs.dim() - 2))
