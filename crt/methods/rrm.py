"""Robust representation matching (Vaishnavi et al., 2022, https://arxiv.org/abs/2202.09994, equation 5)."""

from dataclasses import field
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks import wide
from crt.classifier import Classifier
from crt.method import STRICT, Method, Step
from crt.quantity import Count, Real

__all__ = ["RRM"]


@dataclass(kw_only=True, config=STRICT)
class RRM(Method):
    """The student's features are to be the robust teacher's on the same clean images."""

    lbd: Real = 5e-3
    """Weight of the cross-entropy (the paper's lambda); the paper takes 5e-5 for l2 on CIFAR-10, 1e-3 on ImageNet."""
    distance: Literal["cosine", "l2", "relative"] = "cosine"
    """Of features: minus the cosine, the l2 distance, or this divided by the length of the teacher's."""
    replays: Count = 1
    """Optimizer steps on each batch, which share the teacher's pass."""

    target: Tensor | None = field(default=None, init=False, repr=False)
    """The teacher's features of the batch that is replayed."""

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("lbd", "distance")

    @model_validator(mode="after")
    def _head_learns(self) -> "RRM":
        if self.lbd <= 0:
            raise ValueError(f"lbd={self.lbd:g} (allowed: above 0, else nothing trains the last layer)")
        return self

    def fits(self, model: Classifier) -> None:
        student, teacher = model.head.in_features, self.teacher.head.in_features
        if student != teacher:
            raise ValueError(f"the student has {student} features, its teacher {teacher} (allowed: equal numbers)")

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.replay == 0:
            with torch.no_grad():
                self.target = wide(self.teacher.features(x))
        features = model.features(x)
        cross_entropy = F.cross_entropy(wide(model.logits(features)), y)
        return self.lbd * cross_entropy + self._apart(wide(features)).mean()

    def _apart(self, features: Tensor) -> Tensor:
        """The distance (B,) of features (B, width) to the teacher's."""
        if self.distance == "cosine":
            return -F.cosine_similarity(features, self.target, eps=1e-6)
        length = torch.linalg.vector_norm(features - self.target, dim=1)
        return length / torch.linalg.vector_norm(self.target, dim=1) if self.distance == "relative" else length
