"""SmoothMix (Jeong et al., 2021, https://arxiv.org/abs/2111.09277)."""

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, gaussian, noisy_logits, risen, smooth_ascent, within
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["SmoothMix"]


@dataclass(kw_only=True, config=STRICT)
class SmoothMix(Method):
    """Gaussian augmentation, and less confidence for mixes closer to a smoothed adversarial example."""

    T: Count = 4
    """Steps of the attack."""
    m: Count = 2
    """Noise vectors of each image, and number of parts of a loaded batch."""
    eta: NonNegative = 5.0
    """Weight of the mixing loss."""
    alpha: Positive = 0.5
    """l2 length of an attack step; the paper uses 0.5, 1 and 2 at sigma 0.25, 0.5 and 1."""
    mix_step: Literal[0, 1] = 0
    """Mix from the image (0) or from the attack's first iterate (1, the paper's one-step adversary).

    The authors' code uses the iterate at which the second step begins; with a single step (T=1) that is the image.
    """
    warmup: Count = 10
    """Epochs over which the mixing loss and the one-step radius rise to their full size."""

    epochs_of: ClassVar[tuple[str, ...]] = ("warmup",)
    has_cross_entropy = True

    @property
    def chunks(self) -> int:
        return self.m

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        rise = risen(step.now, self.warmup)
        noise = gaussian(x, self.threat.sigma, self.m)
        iterates = smooth_ascent(model, x, y, noise, self.T, self.alpha)
        if 0 < self.mix_step < self.T:
            x = (x + within(iterates[0] - x, rise * self.alpha)).clamp(0, 1)
        share = 0.5 * torch.rand((len(x), 1, 1, 1), dtype=x.dtype, device=x.device)
        # Two calls, so that each has its own batch statistics, as in the authors' code.
        clean = noisy_logits(model, x, noise)
        mixed = noisy_logits(model, (1 - share) * x + share * iterates[-1], noise)
        smoothed = clean.softmax(-1).mean(0)
        share = share.flatten(1)
        target = (1 - share) * smoothed + share / smoothed.shape[1]
        right = smoothed.argmax(1) == y
        cross_entropy = self.cross_entropy(clean.flatten(0, 1), y.repeat(self.m))
        return cross_entropy + self.eta * rise * (right * divergence(target, mixed)).mean()
