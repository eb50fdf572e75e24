"""Balls of layers with weights: their radii and how far they reach in each output, for all layers at once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crt.lipschitz.chain import Layer, weighted


class Ball(NamedTuple):
    """Image of a ball under a layer with weights, and what the bound of that layer needs of its weights."""

    weight: Tensor
    """The layer's weight, whose gradient is summed with that of what follows here."""
    halves: Tensor
    """Half of the weight's absolute values."""
    reach: Tensor
    """Least and largest change of an output in the ball, of each channel: (2, channels) or (2, B, channels)."""
    rho: Tensor
    """Radius of the ball around the output, of shape () or (B,)."""
    scale: Tensor
    """The numbers -1, -0.5, 0, 0.5 and 1."""


def balls(layers: tuple[Layer, ...], rho: Tensor, norms: dict[str, Tensor]) -> dict[str, Ball]:
    """Balls of layers with weights, the first of which has a ball of radius `rho`, () or (B,), around its input."""
    chosen, scale = weighted(layers), torch.linspace(-1, 1, 5, dtype=rho.dtype, device=rho.device)
    found = _Balls.apply(
        rho, *(norms[layer.name].to(rho) for layer in chosen), *(layer.affine.weight for layer in chosen)
    )
    weights, halves, reaches, radii = (found[k * len(chosen) :][: len(chosen)] for k in range(4))
    return {
        layer.name: Ball(weight, half, reach, radius, scale)
        for layer, weight, half, reach, radius in zip(chosen, weights, halves, reaches, radii, strict=True)
    }


class _Balls(torch.autograd.Function):
    """Weights, their halves, reaches and radii of all layers, from the first radius, all norms and all weights.

    A radius may have no gradient, but all else must have one.
    """

    @staticmethod
    def forward(ctx, rho: Tensor, *given: Tensor):
        norms, weights = given[: len(given) // 2], given[len(given) // 2 :]
        radii = torch.stack([rho, *(norm.expand_as(rho) for norm in norms)]).cumprod(0)
        # A row is the whole kernel, of which neurons at the border see only a part.
        rows = torch.cat([torch.linalg.vector_norm(weight, dim=[*range(1, weight.dim())]) for weight in weights])
        ctx.sizes = [len(weight) for weight in weights]
        before = torch.cat([r[..., None].expand(*r.shape, n) for r, n in zip(radii, ctx.sizes, strict=False)], -1)
        far = before * rows
        halves = torch._foreach_abs(weights)
        torch._foreach_mul_(halves, 0.5)
        ctx.save_for_backward(radii, rows, before, *given)
        ctx.set_materialize_grads(False)
        return *weights, *halves, *torch.stack([-far, far]).split(ctx.sizes, -1), *radii[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, *given):
        radii, rows, before, *saved = ctx.saved_tensors
        count, per_image = len(ctx.sizes), radii.dim() == 2
        norms, weights = saved[:count], saved[count:]
        g_weights, g_halves, g_reaches, g_after = (given[k * count :][:count] for k in range(4))
        g_down, g_up = torch.cat(g_reaches, -1)
        g_far = g_up - g_down
        g_rows = (g_far * before).sum(0) if per_image else g_far * before
        # A row of zeros has the gradient zero.
        g_rows = g_rows / rows.clamp_min(torch.finfo(rows.dtype).tiny)
        g_weights = torch._foreach_addcmul(g_weights, torch._foreach_sign(weights), g_halves, value=0.5)
        for g, weight, row in zip(g_weights, weights, g_rows.split(ctx.sizes), strict=True):
            g.addcmul_(weight, row.view(-1, *[1] * (weight.dim() - 1)))
        # A radius has the gradient of its own use, of the layer's reach and, times the norm, of the radius behind it.
        g_radii = [part.sum(-1) for part in (g_far * rows).split(ctx.sizes, -1)] + [torch.zeros_like(radii[0])]
        for k in reversed(range(count)):
            own = g_after[k]
            g_radii[k + 1] = g_radii[k + 1] if own is None else g_radii[k + 1] + own
            if k:
                g_radii[k] = torch.addcmul(g_radii[k], norms[k], g_radii[k + 1])
        g_norms = torch.stack(g_radii[1:]) * radii[:-1]
        return None, *(g_norms.sum(1) if per_image else g_norms), *g_weights
