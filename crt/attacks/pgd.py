"""Projected gradient ascent (Madry et al., 2018, https://arxiv.org/abs/1706.06083) in l-infinity and l2 balls.

Images are (B, C, H, W) in [0, 1]. Attacks differentiate with respect to the input alone.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.attacks.common import l2, wide, within
from crt.threat import Threat


@contextmanager
def inputs_only(model: nn.Module) -> Iterator[None]:
    """Within: no parameter gradients; train mode stays train mode, in which BN's running statistics move."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """`x_adv` put back into the ball of radius `eps` round `x`, then into [0, 1]: no further than eps (1 + 1e-6)."""
    # Adding the perturbation to the image rounds it outwards: the ball is smaller by as much as that can be.
    rounding = torch.finfo(x.dtype).eps / 2 * (math.sqrt(x.shape[1:].numel()) if norm == "l2" else 1)
    radius = max(eps - rounding, 0.0)
    d = x_adv - x
    d = within(d, radius) if norm == "l2" else d.clamp(-radius, radius)
    return (x + d).clamp(0, 1)


def confine(delta: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """A perturbation put back into the ball of radius `eps`, then to where `x` + `delta` is in [0, 1].

    What is 0, or at an end, is exactly that: nothing is taken as a difference of two images, which is rounded.
    """
    delta = within(delta, eps) if norm == "l2" else delta.clamp(-eps, eps)
    return torch.minimum(torch.maximum(delta, -x), 1 - x)


def start(x: Tensor, eps: float, norm: str, generator: torch.Generator | None = None) -> Tensor:
    """A random point of the ball and of [0, 1]: uniform in the cube, or at distance `eps` before the box in l2."""
    noise = torch.empty_like(x)
    if norm == "l2":
        noise.normal_(generator=generator)
        noise = eps * noise / l2(noise)
    else:
        noise.uniform_(-eps, eps, generator=generator)
    return project(x + noise, x, eps, norm)


def ascend(g: Tensor, norm: str) -> Tensor:
    """The direction of steepest ascent, of length 1 in the norm, for the gradient `g` (B, C, H, W)."""
    return g / (l2(g) + 1e-10) if norm == "l2" else g.sign()


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy (B,) of each image, float32 at least."""
    return F.cross_entropy(wide(model(x)), y, reduction="none")


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, now: Tensor, threat: Threat, alpha: float, K: int, best_of: bool = False
) -> Tensor:
    """`K` ascents of length `alpha` on each image's loss, from `now` and within the threat: what `climb` finds.

    The model is in the mode that the caller gives it, within `frozen` or `inputs_only`.
    """

    def move(now: Tensor, g: Tensor) -> Tensor:
        return project(now + alpha * ascend(g, threat.norm), x, threat.eps, threat.norm)

    return climb(lambda now: losses(model, now, y), move, now, K, best_of)


def climb(
    score: Callable[[Tensor], Tensor], move: Callable[[Tensor, Tensor], Tensor], now: Tensor, K: int, best_of: bool
) -> Tensor:
    """The images after `K` moves along the gradients of their scores (B,), or `best_of` all K + 1 iterates.

    The best of an image is its first of the highest score; to score the last iterate takes one more forward pass.
    """
    best, most = now, None
    for _ in range(K):
        now = now.detach().requires_grad_()
        # torch's counter of operations cannot hook a leaf whose gradient is asked for by name.
        scores = score(now.view_as(now))
        # A mean over the batch would shrink the gradients, which in half precision go to zero.
        (g,) = torch.autograd.grad(scores.sum(), now)
        now = now.detach()
        if best_of:
            best, most = _better(best, most, now, scores.detach())
        now = move(now, g)
    if not best_of:
        return now
    with torch.no_grad():
        return _better(best, most, now, score(now))[0]


def _better(best: Tensor, most: Tensor | None, now: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The iterate of each image with the higher score, the earlier of equals, and that score."""
    if most is None:
        return now, scores
    higher = scores > most
    return torch.where(higher[:, None, None, None], now, best), torch.where(higher, scores, most)
