"""SmoothAdv (Salman et al., 2019, https://arxiv.org/abs/1906.04584)."""

import math
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import gaussian, noisy_logits, risen, smooth_pgd
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["SmoothAdv"]


@dataclass(kw_only=True, config=STRICT)
class SmoothAdv(Method):
    """Cross-entropy of noisy copies of the smoothed classifier's adversarial examples."""

    T: Count = 10
    """Steps of the attack."""
    m: Count = 8
    """Noise vectors of each image, the same in every step of the attack and in training."""
    eps: Positive = 1.0
    """l2 radius of the attack, in pixels of [0, 1]; the authors' commands count in 1/256, and their models use 255."""
    warmup: Count = 10
    """Epochs over which the radius, and with it the step, rises to its full size; 1 for none."""
    update: Literal["multi-noise", "single-noise"] = "multi-noise"
    """Train on every noisy copy in m steps a loaded batch, like the published models, or on each image's first copy."""

    named: ClassVar[tuple[str, ...]] = ("eps", "update")
    epochs_of: ClassVar[tuple[str, ...]] = ("warmup",)
    has_cross_entropy = True

    @property
    def chunks(self) -> int:
        return self.m if self.update == "multi-noise" else 1

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        noise = gaussian(x, self.threat.sigma, self.m)
        eps = risen(step.now, self.warmup) * self.eps
        # The attack never processes more inputs at once than images were loaded.
        size = math.ceil(len(x) * self.chunks / self.m)
        parts = zip(x.split(size), y.split(size), noise.split(size, dim=1), strict=True)
        adversarial = torch.cat([smooth_pgd(model, *part, self.T, eps) for part in parts])
        if self.update == "single-noise":
            noise = noise[:1]
        logits = noisy_logits(model, adversarial, noise)
        return self.cross_entropy(logits.flatten(0, 1), y.repeat(len(noise)))
