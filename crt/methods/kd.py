"""Knowledge distillation (Hinton et al., 2015, https://arxiv.org/abs/1503.02531) from a robust teacher."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.models.classifier import Classifier
from crt.quantity import Positive, Share
from crt.training.method import STRICT, Method, Step

__all__ = ["KD"]


@dataclass(kw_only=True, config=STRICT)
class KD(Method):
    """Divergence of the student's softened softmax from the teacher's on the same clean images.

    Goldblum et al., 2020 (https://arxiv.org/abs/1905.09747), and RRM's equation 6.
    """

    alpha: Share = 1.0
    """Weight of the distillation; the cross-entropy has the rest."""
    t: Positive = 30.0
    """Temperature that softens both networks."""
    form: Literal["textbook", "paper"] = "textbook"
    """Equation 6, or the loss of RRM's code, which softens twice and divides the divergence by the number of classes.

    In that code, both networks end with a division by t, in training and in tests. Here the division is a part of the
    loss only: the teacher was trained without it, and the student's own logits are about t times as large.
    """

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("alpha", "t", "form")

    @property
    def has_cross_entropy(self) -> bool:
        return self.alpha < 1

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        target = self.run_teacher(lambda: self._logits(self.required_teacher, x))
        logits = self._logits(model, x)
        soft, soft_target = ((z / self.t).log_softmax(1) for z in (logits, target()))
        count = soft.numel() if self.form == "paper" else len(soft)
        transfer = self.t**2 * F.kl_div(soft, soft_target, log_target=True, reduction="sum") / count
        if self.alpha == 1:
            return transfer
        cross_entropy = self.cross_entropy(logits / self.t if self.form == "paper" else logits, y)
        return self.alpha * transfer + (1 - self.alpha) * cross_entropy

    def _logits(self, model: Classifier, x: Tensor) -> Tensor:
        logits = wide(model(x))
        return logits / self.t if self.form == "paper" else logits
