"""AutoPGD as in https://github.com/Trusted-AI/adversarial-robustness-toolbox up to version 1.13.

It differs from the algorithm of Croce and Hein, 2020 (https://arxiv.org/abs/2003.01690). One step size serves a whole
batch and is halved by its mean loss, so that what is found of an image depends on the images beside it. Rises are
counted over the best loss, not over the one before. Only the last iterate of a run is asked for its class.
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
"""Images side by side in the evaluations of Vaishnavi et al., 2022 (RRM)."""


class Point(NamedTuple):
    """An iterate of a batch."""

    at: Tensor
    before: Tensor
    """The iterate that the momentum is reckoned from."""
    g: Tensor
    prediction: Tensor


def art17(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, threat: Threat, *, steps: int, loss: Loss, rho: float
) -> Found:
    """Attack images (B, C, H, W) of a frozen model, all together, from the points `start`.

    A start that is misclassified breaks an image too: it is what the toolbox returns where it finds nothing better.
    """
    found, place, ends = Found.nothing(x), torch.arange(len(x), device=x.device), windows(steps)
    value, g, prediction = look(model, start, y, loss)
    found.note(place, start, y, prediction, 0)
    now = best = Point(start, start, g, prediction)
    most = mark = value.mean()
    size, rises = 2 * threat.eps, 0
    for i in range(steps):
        at = _step(now, x, size, threat, MOMENTUM if i else 1.0)
        value, g, prediction = look(model, at, y, loss)
        now, mean = Point(at, now.at, g, prediction), value.mean()
        if i and mean == 0:
            break
        if mean > most or (i == 0 and mean == most):
            # The toolbox goes back from its first step with the image itself as what was before.
            rises, most, best = rises + 1, mean, now if i else now._replace(before=x)
        elif i == 0:
            best = best._replace(before=x)
        if i in ends:
            if rises < rho * ends[i] or most == mark:
                size, now = size / 2, best
            rises, mark = 0, most
    found.note(place, now.at, y, now.prediction, steps)
    return found


def wandering(x: Tensor, threat: Threat, names: Sequence[Name], restart: int) -> Tensor:
    """The start of a restart: that of the one before, with fresh noise uniform in the ball, brought into the ball."""
    at = x
    for number in range(restart + 1):
        at = _boxed(at + offsets(x, threat, names, number), x, threat)
    return at


def windows(steps: int) -> dict[int, int]:
    """The iterations, from 0 on, that end in a checkpoint, each with those since the one before; paper, section 3.2."""
    shares = [0, 0.22]
    while (share := shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06)) <= 1:
        shares.append(share)
    ends = sorted({math.ceil(share * steps) for share in shares})
    return {end: end - last for last, end in pairwise(ends)}


def _step(now: Point, x: Tensor, size: float, threat: Threat, momentum: float) -> Tensor:
    ahead = _boxed(now.at + size * steepest(now.g, threat), x, threat)
    return _boxed(now.at + momentum * (ahead - now.at) + (1 - momentum) * (now.at - now.before), x, threat)


def _boxed(at: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """In the toolbox's order: into [0, 1], then into the ball; in l2 the other order leads elsewhere."""
    return project(at.clamp(0, 1), x, threat.eps, threat.norm)
