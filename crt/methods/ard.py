"""Adversarially robust distillation (Goldblum et al., 2020, https://arxiv.org/abs/1905.09747)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import divergence, wide
from crt.attacks.pgd import inputs_only, pgd, start
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive, Share
from crt.training.method import STRICT, Method, Step

__all__ = ["ARD"]


@dataclass(kw_only=True, config=STRICT)
class ARD(Method):
    """Divergence of the student's softened softmax on adversarial images from the teacher's on the clean ones.

    The attack maximizes the student's cross-entropy, in train mode as in the authors' code. That code also divides the
    divergence by the number of classes; it runs the student on clean images even where they have no weight, so that its
    BatchNorm statistics are theirs, too.
    """

    alpha: Share = 1.0
    """Weight of the distillation; the cross-entropy of clean images has the rest."""
    t: Positive = 30.0
    """Temperature that softens both networks."""
    K: Count = 10
    """Steps of the attack."""
    step_size: Positive | None = None
    """Length of a step, in pixels of [0, 1]; by default eps / 4."""

    needs_teacher: ClassVar[bool] = True
    needs_eps: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("alpha", "t")

    @property
    def has_cross_entropy(self) -> bool:
        return self.alpha < 1

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        target = self.run_teacher(lambda: (wide(self.required_teacher(x)) / self.t).softmax(1))
        begin = start(x, self.threat.eps, self.threat.norm)
        with inputs_only(model):
            adversarial = pgd(model, x, y, begin, self.threat, self.step_size or self.threat.eps / 4, self.K)
        transfer = self.t**2 * divergence(target(), wide(model(adversarial)) / self.t).mean()
        if self.alpha == 1:
            return transfer
        return self.alpha * transfer + (1 - self.alpha) * self.cross_entropy(wide(model(x)), y)
