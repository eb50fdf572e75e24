"""FGSM training with a random start (Wong et al., 2020, https://arxiv.org/abs/2001.03994)."""

from dataclasses import field
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.pgd import ascend, climb, confine, inputs_only, losses, pgd, start
from crt.models.classifier import Classifier
from crt.quantity import Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["FGSMRS"]


@dataclass(kw_only=True, config=STRICT)
class FGSMRS(Method):
    """Cross-entropy after one long attack step; the network stays in train mode."""

    alpha: Positive | None = None
    """Length of the step, in pixels of [0, 1]; by default 1.25 eps."""
    init: Literal["random", "zero", "previous"] = "random"
    """Start of the attack: random, the image, or the image plus the previous batch's perturbation at the same position.

    As in the authors' code, a carried perturbation is clamped to the new image's box after the step, not before it.
    """

    delta: Tensor | None = field(default=None, init=False, repr=False)
    """Perturbations of the previous batch; a smaller batch uses the first of them."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        alpha = self.alpha or 1.25 * self.threat.eps
        with inputs_only(model):
            if self.init == "previous":
                adversarial = self._carried(model, x, y, alpha)
            else:
                begin = x if self.init == "zero" else start(x, self.threat.eps, self.threat.norm)
                adversarial = pgd(model, x, y, begin, self.threat, alpha, K=1)
        return losses(model, adversarial, y, self.label_smoothing).mean()

    def _carried(self, model: Classifier, x: Tensor, y: Tensor, alpha: float) -> Tensor:
        """Images after the step from the previous batch's perturbations, which this batch's then replace."""
        if self.delta is None:
            self.delta = torch.zeros_like(x)
        eps, norm, delta = self.threat.eps, self.threat.norm, self.delta[: len(x)]

        def move(now: Tensor, g: Tensor) -> Tensor:
            return confine(now + alpha * ascend(g, norm), x, eps, norm)

        delta.copy_(climb(lambda now: losses(model, x + now, y), move, delta, K=1, best_of=False))
        return x + delta

    def state(self) -> dict[str, Tensor]:
        return {} if self.delta is None else {"delta": self.delta}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.delta = state.get("delta")
