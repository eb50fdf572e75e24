"""Standard training: cross-entropy on clean images."""

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.models.classifier import Classifier
from crt.training.method import STRICT, Method, Step

__all__ = ["Standard"]


@dataclass(kw_only=True, config=STRICT)
class Standard(Method):
    """Standard training, the baseline of timings."""

    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return self.cross_entropy(model(x), y)
