"""Interval bound propagation (Gowal et al., 2018, https://arxiv.org/abs/1810.12715).

Shi et al., 2021 (https://arxiv.org/abs/2103.17268) shorten the warm-up and the ramp to 1 and 80 of 160 epochs on
CIFAR-10, with BatchNorm, initial weights of their own (`crt.archs.convnet.cnn7_bn` has both) and regularizers
(`regularize: 0.5`), in the warm-up, too; their ramp is a smooth curve, and they have no clean loss after the warm-up.
"""

from pydantic.dataclasses import dataclass

from crt.lipschitz.intervals import check_intervals
from crt.lipschitz.margin_training import Bounded
from crt.models.classifier import Classifier
from crt.quantity import NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["IBP"]


@dataclass(kw_only=True, config=STRICT)
class IBP(Bounded):
    """Cross-entropy of the worst logits that intervals allow, with a clean loss of falling weight."""

    warmup: NonNegative = 1
    """Epochs of cross-entropy alone."""
    ramp: Positive = 80
    """Epochs over which the radius then rises to the threat's."""
    kappa_final: Share | None = 0.5
    """Final weight of the clean loss, from 1; null for no clean loss after the warm-up, as in Shi et al."""

    def fits(self, model: Classifier) -> None:
        check_intervals(model)

    def beta(self, step: Step) -> float:
        return 0.0
