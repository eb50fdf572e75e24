"""Adversarial training (Madry et al., 2018, https://arxiv.org/abs/1706.06083), with the options of RRM's commands.

They run MadryLab's package robustness, which starts at the image without `--random-start 1`; they set that option.
"""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import frozen
from crt.attacks.pgd import losses, pgd, start
from crt.attacks.weights import Network, loss_at_worst_weights
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["SAT"]


@dataclass(kw_only=True, config=STRICT)
class SAT(Method):
    """Cross-entropy of adversarial images alone, which are generated in eval mode."""

    K: Count = 7
    """Steps of the attack."""
    alpha: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default eps / 4 in linf and eps / 5 in l2."""
    best_of: bool = True
    """Train on the iterate with the largest loss, the start included, or on the last."""
    awp: Positive | None = None
    """Perturb the weights, too, by this share of their norm (AWP's gamma; Wu et al., 2020, use 0.005)."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True
    unsaid: ClassVar[frozenset[str]] = frozenset({"awp"})

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        eps, norm = self.threat.eps, self.threat.norm
        alpha = self.alpha or eps / (5 if norm == "l2" else 4)
        with frozen(model) as network:
            adversarial = pgd(network, x, y, start(x, eps, norm), self.threat, alpha, self.K, self.best_of)

        def loss(network: Network) -> Tensor:
            return losses(network, adversarial, y, self.label_smoothing).mean()

        return loss_at_worst_weights(model, loss, self.awp, self.ranks)
