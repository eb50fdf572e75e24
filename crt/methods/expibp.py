"""Exp-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991)."""

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.lipschitz.intervals import worst_losses
from crt.lipschitz.margin_training import Expressive
from crt.quantity import Share
from crt.training.method import STRICT

__all__ = ["ExpIBP"]


@dataclass(kw_only=True, config=STRICT)
class ExpIBP(Expressive):
    """The weighted geometric mean of the cross-entropies of an attack and of intervals.

    It is each image's, as in the paper; the authors' code takes that of the batch's mean losses.
    """

    alpha: Share = 9.5e-2
    """Weight of intervals; 0.5 in the authors' runs of CIFAR-10 and eps 8/255."""

    def between(self, adversarial: Tensor, least: Tensor) -> Tensor:
        # A loss that is rounded to 0 has no logarithm.
        tiny = torch.finfo(least.dtype).tiny
        attacked, worst = (worst_losses(margins).clamp_min(tiny).log() for margins in (adversarial, least))
        return ((1 - self.alpha) * attacked + self.alpha * worst).exp()
