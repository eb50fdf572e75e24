"""Robust representation matching (Vaishnavi et al., 2022, https://arxiv.org/abs/2202.09994, equation 5)."""

from collections.abc import Callable
from dataclasses import field
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.models.classifier import Classifier
from crt.quantity import Count, Real
from crt.training.method import STRICT, Method, Step

__all__ = ["RRM"]


@dataclass(kw_only=True, config=STRICT)
class RRM(Method):
    """Distance of the student's features from the robust teacher's on the same clean images, plus cross-entropy."""

    lbd: Real = 5e-3
    """Weight of the cross-entropy (the paper's lambda); the paper uses 5e-5 for l2 on CIFAR-10 and 1e-3 on ImageNet."""
    distance: Literal["cosine", "l2", "relative"] = "cosine"
    """Distance of features: minus the cosine, l2, or l2 divided by the length of the teacher's features."""
    replays: Count = 1
    """Optimizer steps on each batch, which share the teacher's forward pass."""

    target: Tensor | None = field(default=None, init=False, repr=False)
    """The teacher's features of a full batch that is replayed; a smaller batch uses the first of them."""

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("lbd", "distance")
    has_cross_entropy = True

    @model_validator(mode="after")
    def _head_learns(self) -> "RRM":
        if self.lbd <= 0:
            raise ValueError(f"lbd={self.lbd:g} (allowed: above 0, else nothing trains the last layer)")
        return self

    def fits(self, model: Classifier) -> None:
        student, teacher = model.head.in_features, self.required_teacher.head.in_features
        if student != teacher:
            raise ValueError(f"the student has {student} features, its teacher {teacher} (allowed: equal numbers)")

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        wait = self._teacher_features(x, step)
        features = model.features(x)
        cross_entropy = self.cross_entropy(wide(model.logits(features)), y)
        return self.lbd * cross_entropy + self._apart(wide(features), wait()).mean()

    def _teacher_features(self, x: Tensor, step: Step) -> Callable[[], Tensor]:
        """A function that waits for the teacher's features and returns them."""
        if step.replay > 0 and (target := self.target) is not None:
            return lambda: target[: len(x)]
        wait = self.run_teacher(lambda: wide(self.required_teacher.features(x)))
        if self.replays == 1:
            return wait

        def store() -> Tensor:
            features = wait()
            if self.target is None:
                self.target = torch.empty_like(features)
            return self.target[: len(x)].copy_(features)

        return store

    def _apart(self, features: Tensor, target: Tensor) -> Tensor:
        """Distance (B,) of features (B, width) from the teacher's."""
        if self.distance == "cosine":
            return -F.cosine_similarity(features, target, eps=1e-6)
        length = torch.linalg.vector_norm(features - target, dim=1)
        return length / torch.linalg.vector_norm(target, dim=1) if self.distance == "relative" else length
