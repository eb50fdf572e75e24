"""AutoPGD (Croce and Hein, 2020, https://arxiv.org/abs/2003.01690, algorithm 1), with a step size for each image."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.attacks.pgd import project
from crt.attacks.run import Found, Loss, look, steepest, unbroken
from crt.threat import Threat

MOMENTUM = 0.75
"""Weight of the new step relative to the previous one."""


class Walk(NamedTuple):
    """State of the attack for the images that are not broken yet; each tensor has one row for each image."""

    place: Tensor
    """Position of the image in the batch."""
    x: Tensor
    y: Tensor
    before: Tensor
    """Iterate before `now`."""
    now: Tensor
    g: Tensor
    """Gradient at `now`."""
    value: Tensor
    """Loss at `now`."""
    best: Tensor
    """Iterate with the largest loss."""
    best_g: Tensor
    best_value: Tensor
    size: Tensor
    """Step size, (B, 1, 1, 1)."""
    rises: Tensor
    """Number of steps since the last checkpoint that increased the loss."""
    halved: Tensor
    """True if `size` was halved at the last checkpoint."""
    mark: Tensor
    """`best_value` at the last checkpoint."""


def autopgd(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, threat: Threat, *, steps: int, loss: Loss, rho: float
) -> Found:
    """Attack images (B, C, H, W) of a frozen model from the points `start`; any misclassified iterate breaks an image.

    It takes `steps` + 1 forward and `steps` backward passes, over the images that are not broken yet. Checkpoints
    follow the authors' code, which differs from the paper in them.
    """
    result, ends = Found.nothing(x), windows(steps)
    value, g, prediction = look(model, start, y, loss)
    place = torch.arange(len(x), device=x.device)
    # The authors' code compares the first loss with zero and skips the second condition at the first checkpoint.
    walk = Walk(
        place=place, x=x, y=y, before=start, now=start, g=g, value=torch.zeros_like(value),
        best=start, best_g=g, best_value=value, size=torch.full_like(x[:, :1, :1, :1], 2 * threat.eps),
        rises=torch.zeros_like(place), halved=torch.ones_like(place, dtype=torch.bool), mark=value,
    )  # fmt: skip
    walk = _unbroken(walk, result.note(place, start, y, prediction, 0))
    for i in range(1, steps + 1):
        if not len(walk.place):
            break
        now = _step(walk, threat, MOMENTUM if i > 1 else 1.0)
        value, g, prediction = look(model, now, walk.y, loss, differentiate=i < steps)
        fooled = result.note(walk.place, now, walk.y, prediction, i)
        walk = _unbroken(_moved(walk, now, value, g), fooled)
        if i in ends:
            walk = _checkpoint(walk, rho * ends[i])
    return result


def windows(steps: int) -> dict[int, int]:
    """Iterations that end with a checkpoint, each with the length of its window."""
    ends, length, end = {}, max(int(0.22 * steps), 1), 0
    while (end := end + length) <= steps:
        ends[end] = length
        length = max(length - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return ends


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, which is invariant to scaling and shifting logits; ValueError below 3 classes.

    Croce and Hein, 2020, equation 6.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"loss 'dlr' needs 3 classes, and the network has {logits.shape[1]} (allowed: ce)")
    first, second, third = logits.topk(3).values.unbind(1)
    rival = torch.where(logits.argmax(1) == y, second, first)
    return (rival - logits.gather(1, y[:, None])[:, 0]) / (first - third + 1e-12)


def _step(walk: Walk, threat: Threat, momentum: float) -> Tensor:
    ahead = project(walk.now + walk.size * steepest(walk.g, threat), walk.x, threat.eps, threat.norm)
    mixed = walk.now + momentum * (ahead - walk.now) + (1 - momentum) * (walk.now - walk.before)
    return project(mixed, walk.x, threat.eps, threat.norm)


def _moved(walk: Walk, now: Tensor, value: Tensor, g: Tensor) -> Walk:
    better = value > walk.best_value
    wide = better[:, None, None, None]
    return walk._replace(
        before=walk.now, now=now, g=g, value=value, rises=walk.rises + (value > walk.value),
        best=torch.where(wide, now, walk.best), best_g=torch.where(wide, g, walk.best_g),
        best_value=torch.where(better, value, walk.best_value),
    )  # fmt: skip


def _checkpoint(walk: Walk, enough: float) -> Walk:
    """Halve the step and return to the best point if too few steps rose, or if none did since a step was kept."""
    halve = (walk.rises <= enough) | (~walk.halved & (walk.best_value <= walk.mark))
    wide = halve[:, None, None, None]
    # `before` stays, so that the momentum of the next step includes the jump.
    return walk._replace(
        now=torch.where(wide, walk.best, walk.now), g=torch.where(wide, walk.best_g, walk.g),
        size=torch.where(wide, walk.size / 2, walk.size), rises=torch.zeros_like(walk.rises),
        halved=halve, mark=walk.best_value,
    )  # fmt: skip


def _unbroken(walk: Walk, fooled: Tensor) -> Walk:
    """The walk without the images that are broken, which need no further search."""
    left = unbroken(fooled)
    return walk if left is None else Walk(*(tensor.index_select(0, left) for tensor in walk))
