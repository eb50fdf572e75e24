"""SABR, training on small boxes (Mueller et al., 2023, https://arxiv.org/abs/2210.04871)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.lipschitz.chain import exact
from crt.lipschitz.intervals import worst_losses
from crt.lipschitz.margin_training import Attacked, small_ball
from crt.lipschitz.statistics import fixed
from crt.models.classifier import Classifier
from crt.quantity import Share
from crt.training.method import STRICT

__all__ = ["SABR"]


@dataclass(kw_only=True, config=STRICT)
class SABR(Attacked):
    """Cross-entropy of the worst logits that intervals allow in a small ball near an adversarial image.

    Its centre is the point within (1 - lbd) eps that is nearest to the adversarial image: the ball lies within eps. The
    attack is that of De Palma et al., 2024 (https://arxiv.org/abs/2305.13991), whose code trains SABR, too.
    """

    lbd: Share = 0.1
    """Radius of the small ball, as a share of the attack's."""

    named: ClassVar[tuple[str, ...]] = ("lbd", "K")

    def robust(self, model: Classifier, x: Tensor, y: Tensor, adversarial: Tensor, now: float | Tensor) -> Tensor:
        layers = fixed(model, adversarial).layers
        with exact(x.device):
            small = small_ball(adversarial, x, self.widening * self.radius(now), self.lbd, self.threat.norm)
            least, regularizers = self.bounds(model, layers, small, y, now)
            return worst_losses(least).mean() + regularizers
