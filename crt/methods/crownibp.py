"""CROWN-IBP in l2 balls (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.crown import check_relu, margins
from crt.lipschitz.training import Ramped
from crt.models.classifier import Classifier
from crt.quantity import NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["CROWNIBP"]


@dataclass(kw_only=True, config=STRICT)
class CROWNIBP(Ramped):
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

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, layers = self.share(step.now), chain(model, x.shape[1:])
        with exact(x.device):
            least = margins(model, layers, x, y, share * self.threat.eps, self._beta(step))
            # A class's margin to itself is 0 and comes first.
            robust = F.cross_entropy(F.pad(-least, (1, 0)), y.new_zeros(len(y)))
        if self.kappa_final is None:
            return robust
        kappa = 1 - (1 - self.kappa_final) * share
        return kappa * F.cross_entropy(wide(model(x)), y) + (1 - kappa) * robust

    def _beta(self, step: Step) -> float | Tensor:
        """Weight of linear bounds at this step."""
        if self.beta_final == 1 or step.epoch >= self.steady_from_epoch:
            return self.beta_final
        return 1 - (1 - self.beta_final) * self.share(step.now)
