"""Robust soft label adversarial distillation (Zi et al., 2021, https://arxiv.org/abs/2108.07969)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, frozen, wide
from crt.attacks.distillation import farthest
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive, Share
from crt.training.method import STRICT, Method, Step

__all__ = ["RSLAD"]


@dataclass(kw_only=True, config=STRICT)
class RSLAD(Method):
    """Divergence of the student, on adversarial and on clean images, from the teacher on the clean ones.

    Labels are not used. The attack, in eval mode, maximizes the divergence on the adversarial images. The authors' code
    also divides the loss by the number of classes.
    """

    alpha: Share = 5 / 6
    """Weight of the adversarial images; the clean ones have the rest."""
    K: Count = 10
    """Steps of the attack."""
    step_size: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default eps / 4 in linf (the paper's 2/255) and eps / 5 in l2."""

    needs_teacher: ClassVar[bool] = True
    needs_eps: ClassVar[bool] = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        target = self.run_teacher(lambda: wide(self.required_teacher(x)).softmax(1))()
        with frozen(model) as network:
            adversarial = farthest(
                lambda now: divergence(target, wide(network(now))), x, self.threat, self.step_size, self.K
            )
        # BatchNorm meets the adversarial images first, as in the authors' code.
        robust = divergence(target, wide(model(adversarial))).mean()
        clean = divergence(target, wide(model(x))).mean()
        return self.alpha * robust + (1 - self.alpha) * clean
