"""FGSM training with a random start (Wong et al., 2020, https://arxiv.org/abs/2001.03994)."""

from dataclasses import field
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.classifier import Classifier
from crt.method import STRICT, Method, Step
from crt.pgd import inputs_only, losses, pgd, start
from crt.quantity import Positive

__all__ = ["FGSMRS"]


@dataclass(kw_only=True, config=STRICT)
class FGSMRS(Method):
    """The cross-entropy after one long step of attack; the network is in train mode throughout."""

    alpha: Positive | None = None
    """Length of the step, in pixels of [0, 1]; by default 1.25 eps."""
    init: Literal["random", "zero", "previous"] = "random"
    """Where the attack starts: at random, at the image, or off it by what the last batch's image in its place was."""

    delta: Tensor | None = field(default=None, init=False, repr=False)
    """Perturbations of the last batch, which a shorter one takes the first of."""

    needs_eps: ClassVar[bool] = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        alpha = self.alpha or 1.25 * self.threat.eps
        with inputs_only(model):
            adversarial = pgd(model, x, y, self._start(x), self.threat, alpha, K=1)
        if self.init == "previous":
            self.delta[: len(x)] = adversarial - x
        return losses(model, adversarial, y).mean()

    def _start(self, x: Tensor) -> Tensor:
        if self.init == "random":
            return start(x, self.threat.eps, self.threat.norm)
        if self.init == "zero":
            return x
        if self.delta is None:
            self.delta = torch.zeros_like(x)
        return (x + self.delta[: len(x)]).clamp(0, 1)

    def state(self) -> dict[str, Tensor]:
        return {} if self.delta is None else {"delta": self.delta}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.delta = state.get("delta")
