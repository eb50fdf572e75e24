"""SABR (Mueller et al., 2023, https://arxiv.org/abs/2210.04871)."""

from torch import Tensor

from bench.plain_eager.base import length
from bench.plain_eager.intervals import Attacked, ball, passed, worst_losses

__all__ = ["SABR"]


class SABR(Attacked):
    """Intervals in a small ball, whose centre is the adversarial image or the nearest one that keeps it in the ball."""

    def robust(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> Tensor:
        h, norm = self.settings, self.threat.norm
        radius, delta = h.widening * eps, adversarial - x
        most = (1 - h.lbd) * radius
        if norm == "linf":
            delta = delta.clamp(-most, most)
        else:
            delta = delta * (most / length(delta).clamp(min=1e-12)).clamp(max=1)
        parts, _ = passed(self.model, adversarial)
        return worst_losses(self.least(parts, ball(x + delta, h.lbd * radius, norm), y)).mean()
