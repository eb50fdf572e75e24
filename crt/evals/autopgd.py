"""AutoPGD (Croce and Hein, 2020, https://arxiv.org/abs/2003.01690) as an evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.autopgd import autopgd, cross_entropy, dlr
from crt.attacks.autopgd_art import BATCH, art17, wandering
from crt.attacks.pgd import project
from crt.attacks.run import Found, Name, offsets
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive, Share

__all__ = ["AutoPGD"]

LOSSES = {"ce": cross_entropy, "dlr": dlr}


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class AutoPGD(Attacker):
    """The radius is `eps` where no restart broke an image, else 0; defaults as in the RRM paper's tables 1 and 2."""

    steps: Count = 50
    restarts: Count = 10
    loss: Literal["ce", "dlr"] = "ce"
    rho: Share = 0.75
    """Share of the steps between checkpoints that have to increase the loss."""
    form: Literal["reference", "art17"] = "reference"
    """The authors' algorithm, each image for itself; or that of the toolbox that the RRM paper used, in which a batch
    shares its step size: there a judgement is of an image among those asked for with it, 50 at a time."""
    eps: Positive | None = None
    """By default the threat's."""
    batch: Count = 500
    """Images in one forward pass of the reference form."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    quick: ClassVar[dict[str, int]] = {"steps": 20, "restarts": 2}
    named: ClassVar[tuple[str, ...]] = ("steps", "restarts", "form")

    @property
    def forwards(self) -> int:
        return self.restarts * (2 * self.steps + 1) + 1

    @property
    def budget(self) -> tuple[int, int]:
        return 1, self.steps * self.restarts

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Attack image after image, batch after batch, a model that stays as it is.

        ValueError where the loss is not for its number of classes.
        """
        batch = BATCH if self.form == "art17" else self.batch
        network = self.target(model, batch)
        ball, steps, loss, rho = self.ball, self.steps, LOSSES[self.loss], self.rho

        def reference(x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
            start = project(x + offsets(x, ball, names, restart, full=True), x, ball.eps, ball.norm)
            return autopgd(network, x, y, start, ball, steps=steps, loss=loss, rho=rho)

        def together(x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
            start = wandering(x, ball, names, restart)
            return art17(network, x, y, start, ball, steps=steps, loss=loss, rho=rho)

        attack = together if self.form == "art17" else reference
        return withstand(network, questions, attack, ball, self.restarts, batch)
