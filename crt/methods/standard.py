"""Standard training: cross-entropy on clean images."""

from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.models.classifier import Classifier
from crt.training.method import STRICT, Method, Step

__all__ = ["Standard"]


@dataclass(kw_only=True, config=STRICT)
class Standard(Method):
    """Standard training, the baseline of timings."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(model(x), y)
