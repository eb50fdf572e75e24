"""Perturbations of attacks in l-infinity and l2 balls, which the restatements of adversarial training share."""

import torch
from torch import Tensor

from bench.plain_eager.base import length
from crt.threat import Threat

__all__: list[str] = []


def start(x: Tensor, threat: Threat) -> Tensor:
    """Random perturbation: uniform in the cube, or of l2 length eps."""
    if threat.norm == "linf":
        return torch.empty_like(x).uniform_(-threat.eps, threat.eps)
    direction = torch.randn_like(x)
    return threat.eps * direction / length(direction)


def moved(delta: Tensor, g: Tensor, alpha: float, threat: Threat) -> Tensor:
    """Perturbation after a step of length `alpha` along the gradient `g`, within the ball."""
    if threat.norm == "linf":
        return (delta + alpha * g.sign()).clamp(-threat.eps, threat.eps)
    delta = delta + alpha * g / (length(g) + 1e-10)
    # torch.renorm, which the authors use, would leave the ball's border by 1e-7.
    return delta * (threat.eps / length(delta).clamp(min=1e-12)).clamp(max=1)


def valid(delta: Tensor, x: Tensor) -> Tensor:
    """Perturbation clamped so that `x` + `delta` is in [0, 1]."""
    return torch.max(torch.min(delta, 1 - x), -x)
