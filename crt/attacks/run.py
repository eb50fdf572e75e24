"""One run of an attack: its starts, its losses and its result."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

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
        if fooled.any():
            at = place[fooled]
            self.broken[at], self.iterations[at] = True, iterations
            self.adversarial[at], self.prediction[at] = x[fooled], prediction[fooled]
        return fooled


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
    """Offsets (B, C, H, W), each from its image's own generator: uniform in the ball or, when `full`, of norm eps."""
    drawn, generator = [], torch.Generator()
    for name in names:
        generator.manual_seed(int(np.random.SeedSequence((*name, restart)).generate_state(1, np.uint64)[0]))
        if threat.norm == "linf":
            d = 2 * torch.rand(x.shape[1:], generator=generator, dtype=torch.double) - 1
            drawn.append(d / d.abs().max() if full else d)
        else:
            d = torch.randn(x.shape[1:], generator=generator, dtype=torch.double)
            reach = 1.0 if full else torch.rand((), generator=generator, dtype=torch.double) ** (1 / d.numel())
            drawn.append(d / torch.linalg.vector_norm(d) * reach)
    return threat.eps * torch.stack(drawn).to(x)
