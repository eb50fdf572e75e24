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
from crt.models.low_weights import low_weights
from crt.threat import Threat


@contextmanager
def inputs_only(model: nn.Module) -> Iterator[None]:
    """Switch parameter gradients off inside the block; train mode stays, in which BatchNorm updates its statistics."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        with low_weights(model):
            yield
    finally:
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


def project(x_adv: Tensor, x: Tensor, eps: float | Tensor, norm: str) -> Tensor:
    """`x_adv` projected into the ball of radius `eps` around `x`, then into [0, 1]; at most eps (1 + 1e-6) from `x`."""
    # Adding the perturbation to the image may round it outwards: the ball is smaller by the largest rounding error.
    rounding = torch.finfo(x.dtype).eps / 2 * (math.sqrt(x.shape[1:].numel()) if norm == "l2" else 1)
    d = x_adv - x
    if isinstance(eps, Tensor):
        radius = (eps - rounding).clamp_min(0)
        d = within(d, radius) if norm == "l2" else d.clamp(-radius, radius)
    else:
        least = max(eps - rounding, 0.0)
        d = within(d, least) if norm == "l2" else d.clamp(-least, least)
    return (x + d).clamp(0, 1)


def confine(delta: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """Perturbation projected into the ball of radius `eps`, then to where `x` + `delta` is in [0, 1].

    Zeros and entries at an end stay exact: no value is the difference of two images, which would be rounded.
    """
    delta = within(delta, eps) if norm == "l2" else delta.clamp(-eps, eps)
    return torch.minimum(torch.maximum(delta, -x), 1 - x)


def start(x: Tensor, eps: float | Tensor, norm: str, generator: torch.Generator | None = None) -> Tensor:
    """Random point in the ball and [0, 1]: uniform in the cube or, in l2, at distance `eps` before clamping."""
    noise = torch.empty_like(x)
    if norm == "l2":
        noise.normal_(generator=generator)
        noise = eps * noise / l2(noise)
    elif isinstance(eps, Tensor):
        noise = eps * noise.uniform_(-1, 1, generator=generator)
    else:
        noise.uniform_(-eps, eps, generator=generator)
    return project(x + noise, x, eps, norm)


def ascend(g: Tensor, norm: str) -> Tensor:
    """Direction of steepest ascent for the gradient `g` (B, C, H, W), of length 1 in the norm."""
    return g / (l2(g) + 1e-10) if norm == "l2" else g.sign()


def losses(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy (B,) of each image, at least float32; attacks leave labels as they are."""
    return F.cross_entropy(wide(network(x)), y, reduction="none", label_smoothing=label_smoothing)


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, now: Tensor, threat: Threat, alpha: float, K: int, best_of: bool = False
) -> Tensor:
    """Take `K` ascents of length `alpha` on each image's loss from `now`, within the threat; the result of `climb`.

    The caller sets the model's mode with `frozen` or `inputs_only`.
    """

    # In l-infinity, the ball within [0, 1] is a box, whose ends stay the same in all steps.
    box = [project(x + end, x, threat.eps, "linf") for end in (-1, 1) if threat.norm == "linf"]

    def move(now: Tensor, g: Tensor) -> Tensor:
        moved = torch.add(now, ascend(g, threat.norm), alpha=alpha)
        return moved.clamp_(*box) if box else project(moved, x, threat.eps, threat.norm)

    return climb(lambda now: losses(model, now, y), move, now, K, best_of)


def climb(
    score: Callable[[Tensor], Tensor], move: Callable[[Tensor, Tensor], Tensor], now: Tensor, K: int, best_of: bool
) -> Tensor:
    """Images after `K` moves along the gradients of their scores (B,) or, if `best_of`, the best of K + 1 iterates.

    The best iterate of an image is the first with the highest score; scoring the last iterate takes one more forward
    pass.
    """
    best, most, ones = now, None, None
    for _ in range(K):
        now = now.detach().requires_grad_()
        # torch's counter of operations cannot hook a leaf whose gradient is requested by name.
        scores = score(now.view_as(now))
        ones = torch.ones_like(scores) if ones is None else ones
        # A mean over the batch would shrink the gradients, which underflow to zero in half precision.
        (g,) = torch.autograd.grad(scores, now, ones)
        now = now.detach()
        if best_of:
            best, most = _better(best, most, now, scores.detach())
        now = move(now, g)
    if not best_of:
        return now
    with torch.no_grad():
        return _better(best, most, now, score(now))[0]


def _better(best: Tensor, most: Tensor | None, now: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Iterate of each image with the higher score, the earlier one of a tie, and that score."""
    if most is None:
        return now, scores
    higher = scores > most
    return torch.where(higher[:, None, None, None], now, best), torch.where(higher, scores, most)
