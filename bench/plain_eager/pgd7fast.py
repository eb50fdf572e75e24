"""PGD training with the fast recipe of Wong et al., 2020 (https://arxiv.org/abs/2001.03994)."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement, gradient
from bench.plain_eager.perturbations import moved, start, valid

__all__ = ["PGD7Fast"]


class PGD7Fast(Restatement):
    """The network stays in train mode.

    Each step of the attack takes the gradients of all weights, which are discarded, as in the authors' code.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, threat = self.settings, self.threat
        delta = valid(start(x, threat), x)
        for _ in range(h.K):
            delta.requires_grad_()
            F.cross_entropy(self.model(x + delta), y).backward()
            delta = valid(moved(delta.detach(), gradient(delta), h.alpha or threat.eps / 4, threat), x)
        return F.cross_entropy(self.model(x + delta), y)
