"""Perturbations of attacks in l-infinity and l2 balls, which the restatements of adversarial training share."""

from collections.abc import Callable

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
    direction = g.sign() if threat.norm == "linf" else g / (length(g) + 1e-10)
    return bounded(delta + alpha * direction, threat)


def bounded(delta: Tensor, threat: Threat) -> Tensor:
    """Perturbation projected into the ball."""
    if threat.norm == "linf":
        return delta.clamp(-threat.eps, threat.eps)
    # torch.renorm, which the authors use, would leave the ball's border by 1e-7.
    return delta * (threat.eps / length(delta).clamp(min=1e-12)).clamp(max=1)


def valid(delta: Tensor, x: Tensor) -> Tensor:
    """Perturbation clamped so that `x` + `delta` is in [0, 1]."""
    return torch.max(torch.min(delta, 1 - x), -x)


def farthest(
    apart: Callable[[Tensor], Tensor], x: Tensor, threat: Threat, step_size: float | None, steps: int
) -> Tensor:
    """Images after steps along the gradient of their distances (B,), from a normal start of deviation 0.001."""
    alpha = step_size or threat.eps / (5 if threat.norm == "l2" else 4)
    now = (x + bounded(0.001 * torch.randn_like(x), threat)).clamp(0, 1)
    for _ in range(steps):
        now = now.detach().requires_grad_()
        (g,) = torch.autograd.grad(apart(now).sum(), [now])
        now = (x + moved(now.detach() - x, g, alpha, threat)).clamp(0, 1)
    return now.detach()
