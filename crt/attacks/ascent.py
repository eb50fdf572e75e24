"""Projected gradient ascent that ends for an image at its first misclassified iterate."""

import torch
from torch import Tensor, nn

from crt.attacks.pgd import project
from crt.attacks.run import Found, Loss, look, steepest, unbroken
from crt.threat import Threat


def ascend_until_broken(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    now: Tensor,
    ball: Threat,
    *,
    steps: int,
    alpha: float,
    loss: Loss,
    aim: Tensor,
) -> Found:
    """Ascend `steps` times by `alpha` from `now` on `loss(logits, aim)`, where `aim` has a row for each image.

    It takes `steps` + 1 forward and `steps` backward passes, over the images that are still robust.
    """
    result, place = Found.nothing(x), torch.arange(len(x), device=x.device)
    for i in range(steps + 1):
        _, g, prediction = look(model, now, aim, loss, differentiate=i < steps)
        fooled = result.note(place, now, y, prediction, i)
        if (left := unbroken(fooled)) is not None:
            x, y, now, g, place, aim = (tensor.index_select(0, left) for tensor in (x, y, now, g, place, aim))
        if not len(place):
            break
        if i < steps:
            now = project(now + alpha * steepest(g, ball), x, ball.eps, ball.norm)
    return result
