"""TRADES (Zhang et al., 2019, https://arxiv.org/abs/1901.08573, algorithm 1)."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, frozen, wide
from crt.attacks.pgd import ascend, climb, project
from crt.attacks.weights import Network, loss_at_worst_weights
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["TRADES"]


@dataclass(kw_only=True, config=STRICT)
class TRADES(Method):
    """Cross-entropy of clean images, plus the divergence of adversarial images' softmax from the clean images'.

    The attack raises that divergence in eval mode, from the image plus normal noise of 0.001, as in the authors' code.
    In l2, their code projects onto the box first and onto the ball last. It runs the clean images twice in train mode,
    which moves BatchNorm's running statistics once more and changes no loss.
    """

    K: Count = 10
    """Steps of the attack."""
    alpha: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default 7/31 eps in linf (0.007 at 0.031) and 2 eps / K in l2."""
    beta: NonNegative = 6.0
    """Weight of the divergence (the paper's 1 / lambda)."""
    awp: Positive | None = None
    """Perturb the weights, too, by this share of their norm (AWP's gamma; Wu et al., 2020, use 0.005)."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        adversarial = self._attack(model, x)

        def loss(network: Network) -> Tensor:
            logits = wide(network(x))
            apart = divergence(logits.softmax(1), wide(network(adversarial)))
            return self.cross_entropy(logits, y) + self.beta * apart.mean()

        return loss_at_worst_weights(model, loss, self.awp, self.ranks)

    def _attack(self, model: Classifier, x: Tensor) -> Tensor:
        eps, norm = self.threat.eps, self.threat.norm
        alpha = self.alpha or (2 * eps / self.K if norm == "l2" else 7 / 31 * eps)

        def move(now: Tensor, g: Tensor) -> Tensor:
            return project(torch.add(now, ascend(g, norm), alpha=alpha), x, eps, norm)

        with frozen(model) as network:
            with torch.no_grad():
                target = wide(network(x)).softmax(1)
            begin = x + 0.001 * torch.randn_like(x)
            return climb(lambda now: divergence(target, wide(network(now))), move, begin, self.K, best_of=False)
