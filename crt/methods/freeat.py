"""Free adversarial training (Shafahi et al., 2019, https://arxiv.org/abs/1904.12843)."""

from dataclasses import field
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.pgd import ascend, confine, losses
from crt.models.classifier import Classifier, boxed
from crt.quantity import Count
from crt.training.method import STRICT, Method, Step

__all__ = ["FreeAT"]


@dataclass(kw_only=True, config=STRICT)
class FreeAT(Method):
    """Cross-entropy of perturbed images, replayed: each backward pass updates the weights and the perturbations.

    With smoothed labels, both follow the smoothed loss, for one backward pass serves both.
    """

    m: Count = 8
    """Replays of each batch."""
    reset: bool = False
    """Start each batch without perturbations, as in RRM's text; the authors' code carries them over."""

    delta: Tensor | None = field(default=None, init=False, repr=False)
    """Perturbations of a full batch; a smaller batch uses the first of them."""
    clean: Tensor | None = field(default=None, init=False, repr=False)
    leaf: Tensor | None = field(default=None, init=False, repr=False)
    """Images of a step, with respect to which the perturbations' gradient is taken."""

    needs_eps: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("reset",)
    has_cross_entropy = True

    @property
    def replays(self) -> int:
        return self.m

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if self.delta is None:
            self.delta = torch.zeros_like(x)
        delta = self.delta[: len(x)]
        if self.reset and step.replay == 0:
            delta.zero_()
        self.clean, self.leaf = x, (x + delta).requires_grad_()
        # On another image, a carried perturbation may leave [0, 1], where it has no gradient.
        return losses(model, boxed(self.leaf), y, self.label_smoothing).mean()

    def after(self, model: Classifier) -> None:
        x, eps, norm = self.clean, self.threat.eps, self.threat.norm
        if x is None or self.delta is None or self.leaf is None or self.leaf.grad is None:
            raise RuntimeError("FreeAT moves its perturbations by the gradient of a step's loss, and there is none yet")
        delta = self.delta[: len(x)]
        # When the loss scale of fp16 overflows, the gradient is infinite or NaN and would stay in the perturbation.
        delta.copy_(confine(delta + eps * ascend(self.leaf.grad.nan_to_num(), norm), x, eps, norm))

    def state(self) -> dict[str, Tensor]:
        return {} if self.delta is None else {"delta": self.delta}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.delta = state.get("delta")
