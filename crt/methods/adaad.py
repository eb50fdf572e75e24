"""Adaptive adversarial distillation (Huang et al., CVPR 2023, pages 24668-24677)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, frozen, wide
from crt.attacks.distillation import farthest
from crt.models.classifier import Classifier
from crt.models.low_weights import low_weights
from crt.quantity import Count, Positive, Share
from crt.training.method import STRICT, Method, Step

__all__ = ["AdaAD"]


@dataclass(kw_only=True, config=STRICT)
class AdaAD(Method):
    """Divergence of the student from the teacher where both see the same adversarial images, without labels.

    The attack, in eval mode, maximizes that divergence through both networks. On CIFAR-10, the authors' code also
    divides the loss by the number of classes; it runs the student on clean images even where they have no weight, so
    that its BatchNorm statistics are theirs, too. Its scripts train at 16/255 unless told otherwise, and test at 8/255.
    """

    alpha: Share = 1.0
    """Weight of the adversarial images; the divergence on clean ones has the rest."""
    K: Count = 10
    """Steps of the attack."""
    step_size: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default eps / 4 in linf, as in the authors' code, and eps / 5 in l2."""

    needs_teacher: ClassVar[bool] = True
    needs_eps: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("alpha",)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        teacher = self.required_teacher
        with frozen(model) as network, low_weights(teacher, constant=True):
            adversarial = farthest(
                lambda now: divergence(wide(teacher(now)).softmax(1), wide(network(now))),
                x, self.threat, self.step_size, self.K,
            )  # fmt: skip
        if self.alpha == 1:
            return self._apart(model, adversarial)
        clean = self._apart(model, x)
        return self.alpha * self._apart(model, adversarial) + (1 - self.alpha) * clean

    def _apart(self, model: Classifier, x: Tensor) -> Tensor:
        """Mean divergence of the student from the teacher on images (B, C, H, W)."""
        target = self.run_teacher(lambda: wide(self.required_teacher(x)).softmax(1))
        logits = wide(model(x))
        return divergence(target(), logits).mean()
