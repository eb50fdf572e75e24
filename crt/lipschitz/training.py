"""Base classes of methods that train on worst logits: a rising radius, norms kept between steps, and the mixed loss."""

from abc import abstractmethod
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.lipschitz.chain import Layer, check
from crt.lipschitz.norms import estimates, first_vectors
from crt.models.classifier import Classifier
from crt.threat import Threat
from crt.training.method import STRICT, Method


def needs_ball(threat: Threat, norms: tuple[str, ...] = ("l2",)) -> None:
    """Raise ValueError where the threat is no ball in one of the norms."""
    if threat.norm not in norms or threat.eps <= 0:
        allowed = f"norm: {' or '.join(norms)}, eps above 0"
        raise ValueError(f"the threat is norm: {threat.norm}, eps: {threat.eps:g} (allowed: {allowed})")


@dataclass(kw_only=True, config=STRICT)
class Ramped(Method):
    """Trains with radius 0 for `warmup` epochs; the radius then rises to its full size over `ramp` epochs.

    A subclass has both among its fields, with its paper's values.
    """

    epochs_of: ClassVar[tuple[str, ...]] = ("warmup", "ramp")
    norms_allowed: ClassVar[tuple[str, ...]] = ("l2",)
    """Norms of the balls that it bounds."""

    @property
    @abstractmethod
    def warmup(self) -> float:
        """Number of epochs with radius 0."""

    @property
    @abstractmethod
    def ramp(self) -> float:
        """Number of epochs over which the radius then rises."""

    @model_validator(mode="after")
    def _has_a_ball(self) -> "Ramped":
        needs_ball(self.threat, self.norms_allowed)
        return self

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        return (self.warmup,)

    @property
    def steady_from_epoch(self) -> float:
        return self.warmup + self.ramp

    def share(self, now: float | Tensor) -> float | Tensor:
        """Progress of the ramp: 0 at the end of the warm-up, 1 at the end of the ramp."""
        share = (now - self.warmup) / self.ramp
        return share.clamp(0, 1) if isinstance(share, Tensor) else min(max(share, 0.0), 1.0)


@dataclass(kw_only=True, config=STRICT)
class Normed(Ramped):
    """Estimates norms of layers, continuing from the previous step's vectors.

    A subclass has `power_iterations` among its fields, besides those of `Ramped`.
    """

    vectors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Vector of each layer's power iteration."""

    @property
    @abstractmethod
    def power_iterations(self) -> int:
        """Power iterations of each layer's norm in each step."""

    def fits(self, model: Classifier) -> None:
        check(model)

    def norms(self, layers: tuple[Layer, ...]) -> dict[str, Tensor]:
        """Norms of layers with weights, estimated by `followed` inside `exact`."""
        return followed(layers, self.vectors, self.power_iterations)

    def state(self) -> dict[str, Tensor]:
        return dict(self.vectors)

    def restore(self, state: dict[str, Tensor]) -> None:
        # Steps write into these tensors.
        self.vectors = {name: v.clone() for name, v in state.items()}


def followed(layers: tuple[Layer, ...], vectors: dict[str, Tensor], iterations: int) -> dict[str, Tensor]:
    """Norms of layers with weights, estimated from `vectors`, which are created on first use and updated in place.

    A recorded step finds them in the same memory when it is repeated.
    """
    if not vectors:
        vectors.update(first_vectors(layers))
    norms, after = estimates(layers, vectors, iterations)
    torch._foreach_copy_([vectors[name] for name in after], list(after.values()))
    return norms


def mixed(logits: Tensor, worst: Tensor, y: Tensor, kappa: float | Tensor) -> Tensor:
    """`kappa` times the cross-entropy of logits (B, classes) plus 1 - `kappa` times that of worst logits."""
    # A loss with weight zero is skipped, if `kappa` is a number; a tensor's value is not read.
    if not isinstance(kappa, Tensor) and kappa == 0:
        return F.cross_entropy(worst, y)
    return kappa * F.cross_entropy(logits, y) + (1 - kappa) * F.cross_entropy(worst, y)
