"""CROWN-IBP in l2 balls (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

from typing import ClassVar

from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks import wide
from crt.classifier import Classifier
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.crown import check_relu, margins
from crt.lipschitz.training import needs_ball, ramped
from crt.method import STRICT, Method, Step
from crt.quantity import NonNegative, Positive, Share

__all__ = ["CROWNIBP"]


@dataclass(kw_only=True, config=STRICT)
class CROWNIBP(Method):
    """The cross-entropy of the least margins that intervals and linear bounds leave."""

    warmup: NonNegative = 10
    """Epochs of cross-entropy alone."""
    ramp: Positive = 121
    """Epochs in which the radius then rises to the threat's."""
    beta_final: Share = 1.0
    """Last weight of linear bounds, from 1; the rest is of intervals, with which the authors end, in l-inf."""
    kappa_final: Share | None = None
    """Last weight of the clean loss, from 1; by default there is none after the warm-up."""

    named: ClassVar[tuple[str, ...]] = ("beta_final",)
    epochs_of: ClassVar[tuple[str, ...]] = ("warmup", "ramp")

    @model_validator(mode="after")
    def _has_a_ball(self) -> "CROWNIBP":
        needs_ball(self.threat)
        return self

    @property
    def settled(self) -> float:
        return self.warmup + self.ramp

    def fits(self, model: Classifier) -> None:
        check_relu(model)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, layers = ramped(step.epoch, self.warmup, self.ramp), chain(model, x.shape[1:])
        with exact(x.device):
            least = margins(model, layers, x, y, share * self.threat.eps, 1 - (1 - self.beta_final) * share)
            # A class's own margin is 0, and the first.
            robust = F.cross_entropy(F.pad(-least, (1, 0)), y.new_zeros(len(y)))
        if self.kappa_final is None:
            return robust
        kappa = 1 - (1 - self.kappa_final) * share
        return kappa * F.cross_entropy(wide(model(x)), y) + (1 - kappa) * robust
