"""Standard training: cross-entropy on clean images."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["Standard"]


class Standard(Restatement):
    """One forward and one backward pass."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        return F.cross_entropy(self.model(x), y)
