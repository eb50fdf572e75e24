"""Exp-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991, section 4)."""

from torch import Tensor

from bench.plain_eager.intervals import Attacked, worst_losses

__all__ = ["ExpIBP"]


class ExpIBP(Attacked):
    """The product of powers of each image's losses."""

    def robust(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> Tensor:
        alpha, (attacked, least) = self.settings.alpha, self.bounds(x, y, adversarial, eps)
        return (worst_losses(attacked) ** (1 - alpha) * worst_losses(least) ** alpha).mean()
