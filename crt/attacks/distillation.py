"""The inner attack of robust distillation: images on which a student is far from its teacher, in its last iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from crt.attacks.pgd import ascend, climb, project
from crt.threat import Threat

NEAR = 1e-3
"""Standard deviation of the attack's random start around the image, in pixels of [0, 1], as in the authors' code."""


def farthest(apart: Callable[[Tensor], Tensor], x: Tensor, threat: Threat, length: float | None, K: int) -> Tensor:
    """Images within the threat after `K` ascents on their distance (B,), from near `x` (B, C, H, W).

    An ascent has this length, by default eps / 4 in linf and eps / 5 in l2. The caller sets the networks' modes.
    """
    norm, eps = threat.norm, threat.eps
    size = length or eps / (5 if norm == "l2" else 4)

    def move(now: Tensor, g: Tensor) -> Tensor:
        return project(torch.add(now, ascend(g, norm), alpha=size), x, eps, norm)

    start = project(x + NEAR * torch.randn_like(x), x, eps, norm)
    return climb(apart, move, start, K, best_of=False)
