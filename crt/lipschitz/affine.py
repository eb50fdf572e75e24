"""A layer with weights on a ball and a box at once, with its gradients in closed form."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crt.lipschitz.chain import multiply


class Affine(torch.autograd.Function):
    """Map points (3B, *shape), the centres of balls and the lower and upper ends of boxes, through a layer.

    The box of the output lies within the image of the box and around that of the ball, whose radius is `rho`. Where
    both have the same end, each has half of its gradient, as with `torch.maximum`.
    """

    @staticmethod
    def forward(ctx, points: Tensor, weight: Tensor, bias: Tensor | None, rho: Tensor, module: nn.Conv2d | nn.Linear):
        mu, low, high = points.chunk(3)
        half, absolute = (high - low) / 2, weight.abs()
        # The ball's centre and the box's pass through the layer as one batch.
        centres = torch.cat([mu, low + half])
        mu, centre = module(centres).chunk(2)
        width = multiply(module, half, absolute)
        # A row is the whole kernel, of which neurons at the border see only a part.
        rows = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        reach = _beside(rho, mu) * rows.view(-1, *[1] * (mu.dim() - 2))
        box_low, ball_low, box_high, ball_high = centre - width, mu - reach, centre + width, mu + reach
        out = _like(mu, 3)
        first, second, third = out.chunk(3)
        first.copy_(mu)
        torch.maximum(box_low, ball_low, out=second)
        torch.minimum(box_high, ball_high, out=third)
        if any(ctx.needs_input_grad):
            share = _like(mu, 2)
            lower, upper = share.chunk(2)
            torch.sub(box_low, ball_low, out=lower)
            torch.sub(ball_high, box_high, out=upper)
            share = torch.heaviside(share, share.new_full((), 0.5))
            ctx.save_for_backward(half, centres, weight, absolute, rows, rho, share)
            ctx.module, ctx.biased = module, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        half, centres, weight, absolute, rows, rho, share = ctx.saved_tensors
        to_points, _, _, to_rho, _ = ctx.needs_input_grad
        images = len(g) // 3
        ends = g[images:]
        boxes = ends * share
        box_low, box_high = boxes.chunk(2)
        ball_low, ball_high = (ends - boxes).chunk(2)
        to_mu = torch.add(g[:images], ball_low).add_(ball_high)
        g_centres = torch.cat([to_mu, box_low + box_high])
        g_centres, g_weight, g_bias = _back(ctx.module, g_centres, centres, weight, ctx.biased, to_points)
        g_half, g_absolute, _ = _back(ctx.module, box_high - box_low, half, absolute, False, to_points)
        reach = ball_high - ball_low
        reach = reach.flatten(2).sum(2) if g.dim() > 2 else reach
        g_rows = (reach * rho.view(-1, 1)).sum(0)
        # A row of zeros has the gradient zero.
        g_rows = g_rows / rows.clamp_min(torch.finfo(rows.dtype).tiny)
        g_weight = g_weight.addcmul_(g_absolute, weight.sgn())
        g_weight = g_weight.addcmul_(weight, g_rows.view(-1, *[1] * (weight.dim() - 1)))
        g_rho = (reach * rows).sum(1) if to_rho else None
        if g_rho is not None and rho.dim() == 0:
            g_rho = g_rho.sum()
        return _points(g_centres, g_half) if to_points else None, g_weight, g_bias, g_rho, None


def _points(centres: Tensor, half: Tensor) -> Tensor:
    """Gradient of the points from those of both centres and of half of the box's width."""
    mu, centre = centres.chunk(2)
    out = _like(mu, 3)
    first, second, third = out.chunk(3)
    first.copy_(mu)
    torch.add(half, centre, out=third).div_(2)
    torch.sub(centre, third, out=second)
    return out


def _like(x: Tensor, times: int) -> Tensor:
    """An empty tensor for so many times the images of `x`, in the same memory order."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty((times * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=order)


def _back(
    module: nn.Conv2d | nn.Linear, g: Tensor, x: Tensor, weight: Tensor, biased: bool, to_x: bool
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of the inputs, the weight and the bias of a layer."""
    if isinstance(module, nn.Linear):
        return g @ weight if to_x else None, g.T @ x, g.sum(0) if biased else None
    return torch.ops.aten.convolution_backward(
        g, x, weight, [len(weight)] if biased else None, module.stride, module.padding, module.dilation, False, (0, 0),
        module.groups, (to_x, True, biased),
    )  # fmt: skip


def _beside(values: Tensor, outputs: Tensor) -> Tensor:
    """One value for each image, or for all, shaped to broadcast over outputs (B, ...)."""
    return values.view(-1, *[1] * (outputs.dim() - 1))
