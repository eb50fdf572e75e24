"""Noise-FGSM (de Jorge et al., 2022, https://arxiv.org/abs/2202.01181)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.pgd import ascend, climb, inputs_only, losses, start
from crt.models.classifier import Classifier
from crt.quantity import NonNegative, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["NFGSM"]


@dataclass(kw_only=True, config=STRICT)
class NFGSM(Method):
    """Cross-entropy after one attack step from strong noise; the network stays in train mode.

    The step's end is not projected onto the ball, so that a perturbation may be as large as the noise and the step
    together. As in the authors' code, noise and step are each clamped to [0, 1]. The paper is about linf; in l2, noise
    and step have the same lengths.
    """

    k: NonNegative = 2.0
    """Size of the noise in units of eps: uniform between -k eps and k eps in linf, of length k eps in l2."""
    alpha: Positive | None = None
    """Length of the step, in pixels of [0, 1]; by default eps."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        eps, norm = self.threat.eps, self.threat.norm
        alpha = self.alpha or eps

        def move(now: Tensor, g: Tensor) -> Tensor:
            return (now + alpha * ascend(g, norm)).clamp(0, 1)

        with inputs_only(model):
            noisy = start(x, self.k * eps, norm)
            adversarial = climb(lambda now: losses(model, now, y), move, noisy, K=1, best_of=False)
        return losses(model, adversarial, y, self.label_smoothing).mean()
