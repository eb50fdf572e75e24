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
    """AutoPGD; the radius is `eps` where no restart broke the image, else 0.

    The defaults are those of the RRM paper's tables 1 and 2.
    """

    steps: Count = 50
    restarts: Count = 10
    loss: Literal["ce", "dlr"] = "ce"
    rho: Share = 0.75
    """Share of the steps between two checkpoints that must increase the loss."""
    form: Literal["reference", "art17"] = "reference"
    """Version of the algorithm: the authors', or that of the toolbox used in the RRM paper.

    In the toolbox, a batch of 50 shares its step size, so that a judgement depends on the images of its batch.
    """
    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 500
    """Batch size of the reference form."""

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
        """Attack one batch after another, each image separately; the model does not change.

        ValueError where the loss does not suit the number of classes.
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
