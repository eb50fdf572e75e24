"""Box constraint propagation (Lee et al., 2020, https://arxiv.org/abs/2010.06182)."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place
from bench.plain_eager.boxes import propagate, translation
from bench.plain_eager.chains import Bounded, ramp

__all__ = ["BCP"]


class BCP(Bounded):
    """The clean loss has its own forward pass, whose logits those of the bound repeat, as in the authors' code."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, head = self.settings, self.model.head
        clean = F.cross_entropy(self.model(x), y)
        if place.epoch < h.warmup:
            return clean
        share = ramp(place.epoch, h.warmup, h.ramp)
        region = propagate(self.model, x, share * self.threat.eps, self.norms)[-1].after
        worst = head(region.mu) + translation(head, y, region)
        kappa = 1 - (1 - h.kappa_final) * share
        return kappa * clean + (1 - kappa) * F.cross_entropy(worst, y)
