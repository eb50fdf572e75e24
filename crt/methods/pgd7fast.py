"""PGD training as run for "Fast AT" in RRM's tables (Vaishnavi et al., 2022, https://arxiv.org/abs/2202.09994).

It is adversarial training with the fast recipe of Wong et al., 2020 (https://arxiv.org/abs/2001.03994), without its
FGSM.
"""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.pgd import inputs_only, losses, pgd, start
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["PGD7Fast"]


@dataclass(kw_only=True, config=STRICT)
class PGD7Fast(Method):
    """Cross-entropy of the attack's last iterate; the network stays in train mode."""

    K: Count = 7
    """Steps of the attack."""
    alpha: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default eps / 4."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        begin = start(x, self.threat.eps, self.threat.norm)
        with inputs_only(model):
            adversarial = pgd(model, x, y, begin, self.threat, self.alpha or self.threat.eps / 4, self.K)
        return losses(model, adversarial, y, self.label_smoothing).mean()
