"""MTL-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991)."""

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.lipschitz.intervals import worst_losses
from crt.lipschitz.margin_training import Expressive
from crt.quantity import Share
from crt.training.method import STRICT

__all__ = ["MTLIBP"]


@dataclass(kw_only=True, config=STRICT)
class MTLIBP(Expressive):
    """The weighted mean of the cross-entropies of an attack and of intervals."""

    alpha: Share = 4e-3
    """Weight of intervals; 0.5 in the authors' runs of CIFAR-10 and eps 8/255."""

    def between(self, adversarial: Tensor, least: Tensor) -> Tensor:
        return (1 - self.alpha) * worst_losses(adversarial) + self.alpha * worst_losses(least)
