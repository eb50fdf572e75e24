"""Interval bound propagation (Gowal et al., 2018, https://arxiv.org/abs/1810.12715)."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement
from bench.plain_eager.chains import ramp
from bench.plain_eager.intervals import ball, interval_margins, intervals, passed, regularizers, worst_losses

__all__ = ["IBP"]


class IBP(Restatement):
    """Intervals forwards, whose last layer is that of margins."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        if place.epoch < h.warmup:
            return F.cross_entropy(self.model(x), y)
        share = ramp(place.epoch, h.warmup, h.ramp)
        parts, logits = passed(self.model, x)
        inputs = intervals(self.model, parts, ball(x, share * self.threat.eps, self.threat.norm))
        robust = worst_losses(interval_margins(self.model, y, inputs[-1])).mean()
        kappa = 0 if h.kappa_final is None else 1 - (1 - h.kappa_final) * share
        loss = kappa * F.cross_entropy(logits, y) + (1 - kappa) * robust
        return loss + h.regularize * (1 - share) * regularizers(parts, inputs) if h.regularize else loss
