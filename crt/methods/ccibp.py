"""CC-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991)."""

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.lipschitz.intervals import worst_losses
from crt.lipschitz.margin_training import Expressive
from crt.quantity import Share
from crt.training.method import STRICT

__all__ = ["CCIBP"]


@dataclass(kw_only=True, config=STRICT)
class CCIBP(Expressive):
    """The cross-entropy of the weighted mean of an attack's margins and those that intervals allow."""

    alpha: Share = 1e-2
    """Weight of intervals; 0.5 in the authors' runs of CIFAR-10 and eps 8/255."""

    def between(self, adversarial: Tensor, least: Tensor) -> Tensor:
        return worst_losses((1 - self.alpha) * adversarial + self.alpha * least)
