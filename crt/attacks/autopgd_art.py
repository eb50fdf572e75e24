"""AutoPGD as in https://github.com/Trusted-AI/adversarial-robustness-toolbox up to version 1.13.

It differs from the algorithm of Croce and Hein, 2020 (https://arxiv.org/abs/2003.01690). A whole batch shares one step
size, halved by the mean loss, so that the result for an image depends on the images beside it. Rises are counted
relative to the best loss, not to the previous one. Only the last iterate of a run is classified.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crt.attacks.autopgd import MOMENTUM
from crt.attacks.pgd import project
from crt.attacks.run import Found, Loss, Name, look, offsets, steepest
from crt.threat import Threat

BATCH = 50
"""Batch size in the evaluations of Vaishnavi et al., 2022 (RRM)."""


class Point(NamedTuple):
    """One iterate of a batch."""

    at: Tensor
    before: Tensor
    """Iterate from which the momentum is computed."""
    g: Tensor
    prediction: Tensor


def art17(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, threat: Threat, *, steps: int, loss: Loss, rho: float
) -> Found:
    """Attack a whole batch of images (B, C, H, W) of a frozen model from the points `start`.

    A misclassified start breaks an image, too: the toolbox returns it where it finds nothing better.
    """
    result, place, ends = Found.nothing(x), torch.arange(len(x), device=x.device), windows(steps)
    value, g, prediction = look(model, start, y, loss)
    result.note(place, start, y, prediction, 0)
    now = best = Point(start, start, g, prediction)
    most = mark = float(value.mean())
    size, rises = 2 * threat.eps, 0
    for i in range(steps):
        at = _step(now, x, size, threat, MOMENTUM if i else 1.0)
        value, g, prediction = look(model, at, y, loss)
        # The step size and the next iterate depend on it: the one question of a step to the device.
        now, mean = Point(at, now.at, g, prediction), float(value.mean())
        if i and mean == 0:
            break
        if mean > most or (i == 0 and mean == most):
            # In its first step, the toolbox uses the image itself as the previous iterate.
            rises, most, best = rises + 1, mean, now if i else now._replace(before=x)
        elif i == 0:
            best = best._replace(before=x)
        if i in ends:
            if rises < rho * ends[i] or most == mark:
                size, now = size / 2, best
            rises, mark = 0, most
    result.note(place, now.at, y, now.prediction, steps)
    return result


def wandering(x: Tensor, threat: Threat, names: Sequence[Name], restart: int) -> Tensor:
    """Start of a restart: the previous one's start plus fresh uniform noise, projected into the ball."""
    at = x
    for number in range(restart + 1):
        at = _boxed(at + offsets(x, threat, names, number), x, threat)
    return at


def windows(steps: int) -> dict[int, int]:
    """Iterations, from 0 on, that end with a checkpoint, each with the number since the last; paper, section 3.2."""
    shares = [0, 0.22]
    while (share := shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06)) <= 1:
        shares.append(share)
    ends = sorted({math.ceil(share * steps) for share in shares})
    return {end: end - last for last, end in pairwise(ends)}


def _step(now: Point, x: Tensor, size: float, threat: Threat, momentum: float) -> Tensor:
    ahead = _boxed(now.at + size * steepest(now.g, threat), x, threat)
    return _boxed(now.at + momentum * (ahead - now.at) + (1 - momentum) * (now.at - now.before), x, threat)


def _boxed(at: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """Project into [0, 1], then into the ball, in the toolbox's order; in l2 the other order gives another result."""
    return project(at.clamp(0, 1), x, threat.eps, threat.norm)
