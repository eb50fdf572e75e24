"""Standard training: the cross-entropy of clean images, what every cost is measured against."""

import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.classifier import Classifier
from crt.method import STRICT, Method, Step

__all__ = ["Standard"]


@dataclass(kw_only=True, config=STRICT)
class Standard(Method):
    """mean CE(z(x), y)."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(model(x), y)
