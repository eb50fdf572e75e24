"""Largest changes of logits relative to a class's logit: over a ball, and over a ball and a box.

The change over the ball is that of Tsuzuku et al., 2018 (https://arxiv.org/abs/1802.04034), the one over both that of
Lee et al., 2020 (https://arxiv.org/abs/2010.06182, section 4). Translations are (B, classes), 0 for the class itself,
and worst logits are logits plus translations.
"""

import torch
from torch import Tensor

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
    c = weight - weight.index_select(0, y)[:, None]
    up, down = (region.high - region.mu).clamp_min(0), (region.mu - region.low).clamp_min(0)
    end = torch.where(c > 0, up[:, None], down[:, None])
    c, rho2 = c.abs(), region.rho.view(-1, 1).square()
    c2, end2 = c.square(), end.square()
    held, room, free = torch.zeros_like(c, dtype=torch.bool), rho2, c2.sum(-1)
    while rounds is None or rounds > 0:
        # The comparison is multiplied out, because the divisor may be zero.
        before, held = held, held | (room[..., None] * c2 >= free[..., None] * end2)
        if rounds is None and torch.equal(held, before):
            break
        # The rest of the ball's squared radius without the held coordinates, and the squared length of c along the free
        # ones.
        room = (rho2 - end2.masked_fill(~held, 0).sum(-1)).clamp_min(0)
        free = c2.masked_fill(held, 0).sum(-1)
        rounds = rounds and rounds - 1
    return (c * end).masked_fill(~held, 0).sum(-1) + _root(room * free)


def _root(values: Tensor) -> Tensor:
    """Square root, with gradient 0 at 0."""
    zero = values <= 0
    return values.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


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
