"""Box constraint propagation (Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

from dataclasses import field
from typing import ClassVar

from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks import wide
from crt.classifier import Classifier
from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import chain, check, exact
from crt.lipschitz.norms import estimates, first_vectors
from crt.lipschitz.training import mixed, needs_ball, ramped
from crt.lipschitz.translation import over_both
from crt.method import STRICT, Method, Step
from crt.quantity import Count, NonNegative, Positive, Share

__all__ = ["BCP"]


@dataclass(kw_only=True, config=STRICT)
class BCP(Method):
    """The cross-entropy at the worst logits over the ball and the box that the features are in."""

    warmup: NonNegative = 10.0
    """Epochs of cross-entropy alone."""
    ramp: Positive = 121.0
    """Epochs in which the radius then rises to the threat's, and the clean loss's weight falls to its last."""
    kappa_final: Share = 0.0
    """Last weight of the clean loss."""
    power_iterations: Count = 1
    """Of each layer's norm in each step."""

    vectors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Of each layer's power iteration."""

    epochs_of: ClassVar[tuple[str, ...]] = ("warmup", "ramp")

    @model_validator(mode="after")
    def _has_a_ball(self) -> "BCP":
        needs_ball(self.threat)
        return self

    @property
    def settled(self) -> float:
        return self.warmup + self.ramp

    def fits(self, model: Classifier) -> None:
        check(model)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, layers = ramped(step.epoch, self.warmup, self.ramp), chain(model, x.shape[1:])
        norms, self.vectors = estimates(layers[:-1], self.vectors or first_vectors(layers[:-1]), self.power_iterations)
        with exact(x.device):
            region = before_head(model, layers, x, share * self.threat.eps, norms)
            logits = model.head(region.mu)
            worst = logits + over_both(model.head.weight, y, region)
            return mixed(logits, worst, y, 1 - (1 - self.kappa_final) * share)

    def state(self) -> dict[str, Tensor]:
        return dict(self.vectors)

    def restore(self, state: dict[str, Tensor]) -> None:
        self.vectors = dict(state)
