"""Training on a robust dataset (Ilyas et al., 2019, https://arxiv.org/abs/1905.02175, section 3.1)."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["RDT"]


class RDT(Restatement):
    """Standard training; the images are made beforehand."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        return F.cross_entropy(self.model(x), y)
