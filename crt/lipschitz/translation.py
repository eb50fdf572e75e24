"""Largest changes of logits relative to a class's logit: over a ball, and over a ball and a box.

The change over the ball is that of Tsuzuku et al., 2018 (https://arxiv.org/abs/1802.04034), the one over both that of
Lee et al., 2020 (https://arxiv.org/abs/2010.06182, section 4). Translations are (B, classes), 0 for the class itself,
and worst logits are logits plus translations.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crt.lipschitz.boxes import Region


def distances(weight: Tensor) -> Tensor:
    """The l2 distances (classes, classes) of the head's rows, with gradient 0 where they are 0."""
    # The distances come from differences: the default expands the square, which cancels digits of small distances.
    return torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")


def over_ball(weight: Tensor, y: Tensor, rho: Tensor) -> Tensor:
    """Translations relative to the classes `y` (B,), for features in balls of radius `rho`, () or (B,)."""
    return rho.view(-1, 1) * distances(weight).index_select(0, y)


def over_both(weight: Tensor, y: Tensor, region: Region, rounds: int | None = 1) -> Tensor:
    """Translations relative to the classes `y` (B,), for features in a region; the exact maximum without `rounds`.

    The maximum of c d over the ball and the box is at d = clip(t c) for some t > 0. A round adds the coordinates that
    exceed the box at the previous round's t to those that are held at its ends; the others may leave the box, so that
    the value after any round is an upper bound.
    """
    return _OverBoth.apply(weight, region.points, region.rho, y, rounds)


class _OverBoth(torch.autograd.Function):
    """`over_both` from the head's weights, points (3B, width) of a region and its radius."""

    @staticmethod
    def forward(ctx, weight: Tensor, points: Tensor, rho: Tensor, y: Tensor, rounds: int | None):
        mu, c = points.chunk(3)[1], weight - weight.index_select(0, y)[:, None]
        moves = points.unflatten(0, (3, -1))[::2] - mu
        down, up = moves
        down.clamp_max_(0)
        up.clamp_min_(0)
        end = torch.where(c > 0, up[:, None], down[:, None])
        gain, end2, c2, rho2 = c * end, end.square(), c.square(), rho.view(-1, 1).square()
        loose, room, free = None, rho2, c2.sum(-1)
        while rounds is None or rounds > 0:
            # The comparison is multiplied out, because the divisor may be zero.
            before, inside = loose, room[..., None] * c2 < free[..., None] * end2
            loose = inside if before is None else before & inside
            if rounds is None and before is not None and torch.equal(loose, before):
                break
            # The rest of the ball's squared radius without the held coordinates, and the squared length of c along the
            # free ones.
            room = (rho2 - end2.masked_fill(loose, 0).sum(-1)).clamp_min_(0)
            free = (c2 * loose).sum(-1)
            rounds = rounds and rounds - 1
        root = (room * free).sqrt_()
        loose = torch.ones_like(c, dtype=torch.bool) if loose is None else loose
        ctx.save_for_backward(c, end, moves, rho, y, loose, room, free, root)
        return gain.masked_fill_(loose, 0).sum(-1) + root

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        c, end, moves, rho, y, loose, room, free, root = ctx.saved_tensors
        # The root has the gradient zero at zero.
        per_root = (g / root).masked_fill_(root == 0, 0)
        of_room, of_free, g = per_root * free, per_root * room, g[..., None]
        g_c = torch.where(loose, of_free[..., None] * c, g * end)
        g_weight = g_c.sum(0).index_add_(0, y, g_c.sum(1), alpha=-1)
        g_end = (g * c).addcmul_(of_room[..., None], end, value=-1).masked_fill_(loose, 0)
        upwards, images = c > 0, len(y)
        g_points = c.new_empty((3 * images, c.shape[-1]))
        low, mu, high = g_points.chunk(3)
        torch.sum(g_end * upwards, 1, out=high)
        torch.sum(g_end.masked_fill_(upwards, 0), 1, out=low)
        g_points.unflatten(0, (3, -1))[::2].mul_(moves != 0)
        torch.add(low, high, out=mu).neg_()
        g_rho = rho * (of_room.sum(1) if rho.dim() else of_room.sum())
        return g_weight, g_points, g_rho, None, None


def wins(logits: Tensor, worst: Tensor, classes: Tensor) -> Tensor:
    """True (B,) where the logit of `classes` (B,) exceeds the worst logits of all other classes."""
    own = logits.gather(1, classes[:, None])
    others = worst.scatter(1, classes[:, None], -torch.inf)
    return (others < own).all(1)


def radius(logits: Tensor, weight: Tensor, classes: Tensor, lipschitz: Tensor) -> Tensor:
    """Radius (B,) in which `classes` (B,) do not change, for features with a Lipschitz constant; 0 where they lose."""
    gap = logits.gather(1, classes[:, None]) - logits
    ratio = torch.where(gap > 0, gap / (lipschitz * distances(weight).index_select(0, classes)), 0)
    return ratio.scatter(1, classes[:, None], torch.inf).amin(1)
