"""One run of an attack: its starts, its losses and its result."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crt.attacks import cpu_numbers
from crt.attacks.common import l2, wide
from crt.threat import Threat

Name = tuple[int, int]
"""Seed of an image's random numbers: the run's seed and the image's index."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""Function from logits (B, classes) and labels (B,) to the values (B,) that an attack increases."""


class Found(NamedTuple):
    """Result of one run of an attack on each image."""

    broken: Tensor
    """Mask (B,) of the images for which the attack succeeded."""
    adversarial: Tensor
    """Adversarial images (B, C, H, W); the original image where the attack failed."""
    prediction: Tensor
    """Predicted classes (B,) of the adversarial images."""
    iterations: Tensor
    """Number of steps (B,) taken to reach them."""

    @classmethod
    def nothing(cls, x: Tensor) -> "Found":
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return cls(none.bool(), x.clone(), none.clone(), none.clone())

    def note(self, place: Tensor, x: Tensor, y: Tensor, prediction: Tensor, iterations: int) -> Tensor:
        """Record those images `x`, at positions `place` of the batch, that are not classified as `y`; their mask."""
        fooled = prediction != y
        # Choosing rows by the mask would wait for the device to count them.
        for kept, values in (
            *((self.broken, fooled), (self.iterations, torch.full_like(place, iterations))),
            *((self.adversarial, x), (self.prediction, prediction)),
        ):
            mask = fooled.view(-1, *[1] * (kept.dim() - 1))
            kept.index_copy_(0, place, torch.where(mask, values, kept.index_select(0, place)))
        return fooled


def unbroken(fooled: Tensor) -> Tensor | None:
    """Positions of the images that are not broken; None if none is broken. It waits for the device once."""
    left = (~fooled).nonzero().flatten()
    return left if len(left) < len(fooled) else None


Attack = Callable[[Tensor, Tensor, Sequence[Name], int], Found]
"""One run on images (B, C, H, W) with labels (B,), their names and the number of the restart."""


def classes(logits: Tensor) -> Tensor:
    """Class with the largest logit of each row; -1, which is no class, where a logit is NaN."""
    # argmax treats NaN as the largest: without this, a diverged network would be certified as class 0.
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def look(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, differentiate: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,), its gradient (B, C, H, W) and class (B,) of images `x`: one forward pass, one backward to the input.

    The gradient is zero where it is not requested.
    """
    x = x.detach().requires_grad_(differentiate)
    with torch.set_grad_enabled(differentiate):
        logits = model(x)
        values = loss(wide(logits), y)
    g = torch.autograd.grad(values.sum(), x)[0] if differentiate else torch.zeros_like(x)
    return values.detach(), g, classes(logits.detach())


def steepest(g: Tensor, threat: Threat) -> Tensor:
    """Direction of unit norm in which a loss with the gradient `g` (B, C, H, W), however small, rises most."""
    return g.sign() if threat.norm == "linf" else g / (l2(g) + 1e-12)


def offsets(x: Tensor, threat: Threat, names: Sequence[Name], restart: int, full: bool = False) -> Tensor:
    """Offsets (B, C, H, W), each from its image's own numbers: uniform in the ball or, when `full`, of norm eps.

    They are the same on every device: on a GPU, they are computed there, since the CPU draws one image at a time.
    """
    seeds = [int(np.random.SeedSequence((*name, restart)).generate_state(1, np.uint64)[0]) for name in names]
    # torch makes fewer normal numbers than these in another way.
    if x.is_cuda and x[0].numel() >= cpu_numbers.TAIL:
        return threat.eps * _offsets_there(x, threat, seeds, full).to(x)
    drawn, generator = [], torch.Generator()
    for seed in seeds:
        generator.manual_seed(seed)
        if threat.norm == "linf":
            d = 2 * torch.rand(x.shape[1:], generator=generator, dtype=torch.double) - 1
            drawn.append(d / d.abs().max() if full else d)
        else:
            d = torch.randn(x.shape[1:], generator=generator, dtype=torch.double)
            reach = 1.0 if full else torch.rand((), generator=generator, dtype=torch.double) ** (1 / d.numel())
            drawn.append(d / torch.linalg.vector_norm(d) * reach)
    return threat.eps * torch.stack(drawn).to(x)


def _offsets_there(x: Tensor, threat: Threat, seeds: Sequence[int], full: bool) -> Tensor:
    """Offsets in the unit ball, computed on the device of `x`, in float64."""
    size = x[0].numel()
    if threat.norm == "linf":
        d = 2 * cpu_numbers.uniform(seeds, size, x.device) - 1
        return (d / d.abs().amax(1, keepdim=True) if full else d).view_as(x)
    draws = cpu_numbers.draws_of_normal(size)
    uniforms = cpu_numbers.uniform(seeds, draws + (not full), x.device)
    d = cpu_numbers.normal(uniforms, size)
    reach = 1.0 if full else uniforms[:, draws:] ** (1 / size)
    return (d / torch.linalg.vector_norm(d, dim=1, keepdim=True) * reach).view_as(x)
