"""CC-IBP (De Palma et al., 2024, https://arxiv.org/abs/2305.13991, section 4)."""

from torch import Tensor

from bench.plain_eager.intervals import Attacked, worst_losses

__all__ = ["CCIBP"]


class CCIBP(Attacked):
    """The loss of the convex combination of the margins."""

    def robust(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> Tensor:
        alpha, (attacked, least) = self.settings.alpha, self.bounds(x, y, adversarial, eps)
        return worst_losses((1 - alpha) * attacked + alpha * least).mean()
