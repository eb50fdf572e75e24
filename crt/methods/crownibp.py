"""CROWN-IBP in l2 and l-infinity balls (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.lipschitz.crown import check_relu
from crt.lipschitz.margin_training import Bounded
from crt.models.classifier import Classifier
from crt.quantity import NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["CROWNIBP"]


@dataclass(kw_only=True, config=STRICT)
class CROWNIBP(Bounded):
    """Cross-entropy of the smallest margins allowed by intervals and linear bounds."""

    warmup: NonNegative = 10
    """Epochs of cross-entropy alone."""
    ramp: Positive = 121
    """Epochs over which the radius then rises to the threat's."""
    beta_final: Share = 1.0
    """Final weight of linear bounds, from 1; intervals have the rest, and end alone in the authors' l-inf runs."""
    kappa_final: Share | None = None
    """Final weight of the clean loss, from 1; by default there is no clean loss after the warm-up."""

    named: ClassVar[tuple[str, ...]] = ("beta_final",)

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        # After this epoch, linear bounds may have no weight.
        return super().phase_boundaries if self.beta_final == 1 else (self.warmup, self.steady_from_epoch)

    def fits(self, model: Classifier) -> None:
        check_relu(model)

    def beta(self, step: Step) -> float | Tensor:
        if self.beta_final == 1 or step.epoch >= self.steady_from_epoch:
            return self.beta_final
        return 1 - (1 - self.beta_final) * self.share(step.now)
