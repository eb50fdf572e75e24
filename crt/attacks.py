"""Attacks that training and evaluation share; they differentiate with respect to the input alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within: eval mode (BN's running statistics, not updated) and no parameter gradients; then all as it was."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


def noisy_logits(model: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """Logits (m, B, classes), float32 at least, of images `x` (B, C, H, W) under `noise` (m, B, C, H, W): one call."""
    logits = model((x + noise).flatten(0, 1))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.unflatten(0, noise.shape[:2])


def smooth_ascent(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor, steps: int, size: float) -> list[Tensor]:
    """The images after each of `steps` ascents of l2 length `size` on -log of the smoothed class's probability.

    The noise (m, B, C, H, W) is the same in every step; images stay in [0, 1] and in no ball.
    Salman et al., 2019 (https://arxiv.org/abs/1906.04584), as SmoothMix uses it.
    """
    iterates, now = [], x
    with frozen(model):
        for _ in range(steps):
            now = now.detach().requires_grad_()
            p = noisy_logits(model, now, noise).softmax(-1).mean(0).gather(1, y[:, None])
            (g,) = torch.autograd.grad(-p.clamp_min(1e-20).log().sum(), now)
            now = (now.detach() + size * g / (l2(g) + 1e-8)).clamp(0, 1)
            iterates.append(now)
    return iterates


def l2(d: Tensor) -> Tensor:
    """The l2 norm of each image's (B, C, H, W), of shape (B, 1, 1, 1)."""
    return torch.linalg.vector_norm(d.flatten(1), dim=1)[:, None, None, None]


def within(d: Tensor, radius: float) -> Tensor:
    """`d` (B, C, H, W), those longer than `radius` in l2 scaled down to it."""
    return d * (radius / l2(d).clamp_min(torch.finfo(d.dtype).tiny)).clamp_max(1)
