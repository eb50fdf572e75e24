"""A layer with weights on a ball and a box at once, with its gradients in closed form."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crt.lipschitz.chain import multiply


class Affine(torch.autograd.Function):
    """Map points (3, B, *shape), the centre of a ball and the ends of a box, through a layer.

    The box of the output lies within the image of the box and around that of the ball, whose radius is `rho`. Where
    both have the same end, each has half of its gradient, as with `torch.maximum`.
    """

    @staticmethod
    def forward(ctx, points: Tensor, weight: Tensor, bias: Tensor | None, rho: Tensor, module: nn.Conv2d | nn.Linear):
        mu, low, high = points.unbind()
        half, absolute = (high - low) / 2, weight.abs()
        # The ball's centre and the box's pass through the layer as one batch.
        centres = torch.cat([mu, low + half])
        mu, centre = module(centres).chunk(2)
        width = multiply(module, half, absolute)
        # A row is the whole kernel, of which neurons at the border see only a part.
        rows = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        reach = _beside(rho, mu) * rows.view(-1, *[1] * (mu.dim() - 2))
        box_low, ball_low, box_high, ball_high = centre - width, mu - reach, centre + width, mu + reach
        out = mu.new_empty(3, *mu.shape)
        out[0] = mu
        torch.maximum(box_low, ball_low, out=out[1])
        torch.minimum(box_high, ball_high, out=out[2])
        if any(ctx.needs_input_grad):
            share = torch.empty_like(out[1:])
            torch.sub(box_low, ball_low, out=share[0])
            torch.sub(ball_high, box_high, out=share[1])
            share = torch.heaviside(share, share.new_full((), 0.5))
            ctx.save_for_backward(half, centres, weight, absolute, rows, rho, share)
            ctx.module, ctx.biased = module, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        half, centres, weight, absolute, rows, rho, share = ctx.saved_tensors
        to_points, _, _, to_rho, _ = ctx.needs_input_grad
        box = g[1:] * share
        ball = g[1:] - box
        to_mu = torch.add(g[0], ball[0]).add_(ball[1])
        g_centres = torch.cat([to_mu, box[0] + box[1]])
        g_centres, g_weight, g_bias = _back(ctx.module, g_centres, centres, weight, ctx.biased, to_points)
        g_half, g_absolute, _ = _back(ctx.module, box[1] - box[0], half, absolute, False, to_points)
        reach = (ball[1] - ball[0]).flatten(2).sum(2) if g.dim() > 3 else ball[1] - ball[0]
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
    out = mu.new_empty(3, *mu.shape)
    out[0] = mu
    torch.add(half, centre, out=out[2]).div_(2)
    torch.sub(centre, out[2], out=out[1])
    return out


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
