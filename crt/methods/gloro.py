"""Globally robust networks (Leino et al., 2021, https://arxiv.org/abs/2102.08452)."""

import math
from dataclasses import field
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks import divergence, wide
from crt.classifier import Classifier
from crt.lipschitz.chain import chain, check, exact
from crt.lipschitz.measures import features_constant
from crt.lipschitz.norms import estimates, first_vectors
from crt.lipschitz.training import needs_ball, ramped
from crt.lipschitz.translation import over_ball
from crt.method import STRICT, Method, Step
from crt.quantity import Count, NonNegative, Positive

__all__ = ["GloRo"]


@dataclass(kw_only=True, config=STRICT)
class GloRo(Method):
    """One more class, "not robust", whose logit is the largest that another class than the predicted can reach."""

    objective: Literal["ce", "trades"] = "ce"
    """The cross-entropy of all classes; or that of the real ones, and how far all diverge from them."""
    lbd: NonNegative = 1.2
    """Weight of the divergence (the authors' lambda)."""
    warmup: NonNegative = 20.0
    """Epochs of cross-entropy alone."""
    ramp: Positive = 400.0
    """Epochs in which the radius then rises, as a logarithm of the time, to its full size."""
    widening: Positive = 1.1
    """The full radius, in the threat's."""
    power_iterations: Count = 5
    """Of each layer's norm in each step."""

    vectors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Of each layer's power iteration."""

    named: ClassVar[tuple[str, ...]] = ("objective",)
    epochs_of: ClassVar[tuple[str, ...]] = ("warmup", "ramp")

    @model_validator(mode="after")
    def _has_a_ball(self) -> "GloRo":
        needs_ball(self.threat)
        return self

    @property
    def settled(self) -> float:
        return self.warmup + self.ramp

    def fits(self, model: Classifier) -> None:
        check(model)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        logits = wide(model(x))
        if step.epoch < self.warmup:
            return F.cross_entropy(logits, y)
        layers = chain(model, x.shape[1:])
        norms, self.vectors = estimates(layers[:-1], self.vectors or first_vectors(layers[:-1]), self.power_iterations)
        with exact(x.device):
            rho = self.radius(step.epoch) * features_constant(model, layers, norms)
            found = logits.argmax(1)
            reached = logits + over_ball(model.head.weight, found, rho)
            bottom = reached.scatter(1, found[:, None], -torch.inf).amax(1, keepdim=True)
            extended = torch.cat([logits, bottom], 1)
            if self.objective == "ce":
                return F.cross_entropy(extended, y)
            clean = F.pad(logits.softmax(1), (0, 1))
            return F.cross_entropy(logits, y) + self.lbd * divergence(clean, extended).mean()

    def radius(self, epoch: float) -> float:
        """The training radius at an epoch: a hundredth of the full one at the end of the warm-up."""
        share, first = ramped(epoch, self.warmup, self.ramp), math.exp(0.01)
        return self.widening * self.threat.eps * math.log(first + (math.e - first) * share)

    def state(self) -> dict[str, Tensor]:
        return dict(self.vectors)

    def restore(self, state: dict[str, Tensor]) -> None:
        self.vectors = dict(state)
