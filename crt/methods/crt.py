"""Certified robustness transfer (Vaishnavi et al., 2022, https://arxiv.org/abs/2210.14283)."""

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import wide
from crt.models.classifier import Classifier
from crt.quantity import Share
from crt.training.method import STRICT, Method, Step

__all__ = ["CRT"]


@dataclass(kw_only=True, config=STRICT)
class CRT(Method):
    """The l2 distance between student and teacher on the same noisy images."""

    alpha: Share = 1.0
    """Weight of the transfer; the cross-entropy has the rest."""
    target: Literal["logits", "softmax"] = "logits"
    """Outputs that are matched: the authors' code matches logits, the paper's text the softmax."""

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("target",)

    @property
    def has_cross_entropy(self) -> bool:
        return self.alpha < 1

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        noisy = x + self.threat.sigma * torch.randn_like(x)
        target = self.run_teacher(lambda: self._scores(self.required_teacher(noisy)))
        logits = model(noisy)
        # vector_norm has the subgradient 0 where student and teacher agree; a square root would give NaN.
        transfer = torch.linalg.vector_norm(self._scores(logits) - target(), dim=1).mean()
        if self.alpha == 1:
            return transfer
        return self.alpha * transfer + (1 - self.alpha) * self.cross_entropy(logits, y)

    def _scores(self, logits: Tensor) -> Tensor:
        # Differences of nearly equal bf16 numbers would mostly be rounding.
        logits = wide(logits)
        return logits.softmax(1) if self.target == "softmax" else logits
