"""Functions shared by the attacks of training and evaluation and by methods of randomized smoothing.

Attacks differentiate with respect to the input alone.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crt.models.classifier import Classifier
from crt.models.low_weights import low_weights

LOG_FLOOR = math.log(1e-20)
"""Log-probability of the class below which an attack has no gradient."""


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model in eval mode without parameter gradients inside the block, and restore it after.

    In eval mode, BatchNorm uses its running statistics and does not update them. The block attacks the model that this
    yields: the model itself or, where `crt.training.precision` gave it one, its twin without BatchNorm.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        network = model.twin.now() if isinstance(model, Classifier) and model.twin else model
        with low_weights(network):
            yield network
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


def gaussian(x: Tensor, sigma: float, m: int) -> Tensor:
    """Noise (m, B, C, H, W) for images `x` (B, C, H, W)."""
    return sigma * torch.randn((m, *x.shape), dtype=x.dtype, device=x.device)


def noisy_logits(model: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """Logits (m, B, classes), at least float32, of `x` (B, C, H, W) under `noise` (m, B, C, H, W), in one call."""
    logits = model((x + noise).flatten(0, 1))
    return wide(logits).unflatten(0, noise.shape[:2])


def smooth_gradient(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor, floor: float = LOG_FLOOR) -> Tensor:
    """Gradient (B, C, H, W) of -log of the smoothed class's probability, whose log is at least `floor`."""
    x = x.detach().requires_grad_()
    m = len(noise)
    log_p = noisy_logits(model, x, noise).log_softmax(-1).gather(-1, y.expand(m, -1)[..., None])
    # m times the mean probability has the same gradient; that of -log comes from the factor.
    log_sum = log_p.logsumexp(0).clamp_min(floor + math.log(m))
    (g,) = torch.autograd.grad(log_sum, x, torch.full_like(log_sum, -1))
    return g


def smooth_ascent(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor, steps: int, size: float) -> list[Tensor]:
    """Images after each of `steps` ascents of l2 length `size` on -log of the smoothed class's probability.

    The noise (m, B, C, H, W) is the same in every step; images stay in [0, 1], without a ball. Salman et al., 2019
    (https://arxiv.org/abs/1906.04584), as used by SmoothMix.
    """
    iterates, now = [], x
    with frozen(model) as network:
        for _ in range(steps):
            g = smooth_gradient(network, now, y, noise)
            now = (now + size * g / (l2(g) + 1e-8)).clamp(0, 1)
            iterates.append(now)
    return iterates


def smooth_pgd(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor, steps: int, eps: float | Tensor) -> Tensor:
    """Images after `steps` ascents of l2 length 2 `eps` / `steps` on -log of the smoothed class's probability.

    The noise (m, B, C, H, W) is the same in every step; images stay in [0, 1] and within `eps` of `x` in l2. Salman et
    al., 2019 (https://arxiv.org/abs/1906.04584), in the order of their code: first the box, then the ball.
    """
    # With a single noise vector, the authors' code uses the cross-entropy of the logits, which has no floor.
    floor = LOG_FLOOR if len(noise) > 1 else -math.inf
    now = x
    with frozen(model) as network:
        for _ in range(steps):
            g = smooth_gradient(network, now, y, noise, floor)
            length = l2(g)
            # An image without a gradient moves in a random direction.
            g = torch.where(length > 0, g / length, torch.randn_like(g))
            now = x + within((now + 2 * eps / steps * g).clamp(0, 1) - x, eps)
    return now


def wide(values: Tensor) -> Tensor:
    """`values` in at least float32, since differences of nearly equal bf16 numbers would mostly be rounding."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def l2(d: Tensor) -> Tensor:
    """The l2 norm of each image (B, C, H, W), of shape (B, 1, 1, 1)."""
    return torch.linalg.vector_norm(d.flatten(1), dim=1)[:, None, None, None]


def within(d: Tensor, radius: float | Tensor) -> Tensor:
    """`d` (B, C, H, W) with rows longer than `radius` in l2 scaled down to it."""
    return d * (radius / l2(d).clamp_min(torch.finfo(d.dtype).tiny)).clamp_max(1)


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || softmax(logits)) over the last dimension, with a finite gradient where the target is 0."""
    log_target = target.clamp_min(torch.finfo(target.dtype).tiny).log()
    return (target * (log_target - logits.log_softmax(-1))).sum(-1)


def risen(now: float | Tensor, warmup: int) -> float | Tensor:
    """Fraction of the full value after `now` epochs: it rises for `warmup` whole epochs, from 1 / `warmup` on."""
    if isinstance(now, Tensor):
        return ((now.floor() + 1) / warmup).clamp_max(1.0)
    return min(1.0, (math.floor(now) + 1) / warmup)
