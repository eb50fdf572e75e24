"""MTL-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991, section 4)."""

from torch import Tensor

from bench.plain_eager.intervals import Attacked, worst_losses

__all__ = ["MTLIBP"]


class MTLIBP(Attacked):
    """The convex combination of the losses."""

    def robust(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> Tensor:
        alpha, (attacked, least) = self.settings.alpha, self.bounds(x, y, adversarial, eps)
        return (1 - alpha) * worst_losses(attacked).mean() + alpha * worst_losses(least).mean()
