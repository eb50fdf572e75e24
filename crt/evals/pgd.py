"""Projected gradient ascent (Madry et al., 2018, https://arxiv.org/abs/1706.06083) as an evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks.ascent import ascend_until_broken
from crt.attacks.autopgd import cross_entropy
from crt.attacks.pgd import project
from crt.attacks.run import Found, Name, offsets
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive

__all__ = ["PGD"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class PGD(Attacker):
    """Projected gradient ascent; the radius is `eps` where no iterate of any restart is misclassified, else 0."""

    steps: Count = 20
    alpha: Positive | None = None
    """Step size; by default 2.5 eps / steps."""
    restarts: Count = 1
    start: Literal["random", "none"] = "random"
    """Start of the attack: a uniformly random point of the ball, or the image itself."""
    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 500
    """Batch size; each image is attacked separately."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    quick: ClassVar[dict[str, int]] = {"steps": 20, "restarts": 2}
    named: ClassVar[tuple[str, ...]] = ("steps", "restarts")

    @model_validator(mode="after")
    def _starts_differ(self) -> "PGD":
        if self.start == "none" and self.restarts > 1:
            raise ValueError(f"PGD with start 'none' would repeat itself: restarts={self.restarts} (allowed: 1)")
        return self

    @property
    def forwards(self) -> int:
        return self.restarts * (2 * self.steps + 1) + 1

    @property
    def budget(self) -> tuple[int, int]:
        return 1, self.steps * self.restarts

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Attack one batch after another, each image separately; the model does not change.

        A restart takes `steps` + 1 forward and `steps` backward passes, over the images that are still robust.
        """
        network = self.target(model, self.batch)

        def attack(x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
            return self._run(network, x, y, names, restart)

        return withstand(network, questions, attack, self.ball, self.restarts, self.batch)

    def _run(self, model: nn.Module, x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
        ball = self.ball
        start = x if self.start == "none" else project(x + offsets(x, ball, names, restart), x, ball.eps, ball.norm)
        alpha = self.alpha or 2.5 * ball.eps / self.steps
        return ascend_until_broken(model, x, y, start, ball, steps=self.steps, alpha=alpha, loss=cross_entropy, aim=y)
