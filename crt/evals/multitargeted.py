"""MultiTargeted attack (Gowal et al., 2019, https://arxiv.org/abs/1910.09338) as an evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks.ascent import ascend_until_broken
from crt.attacks.pgd import project
from crt.attacks.run import Found, Name, offsets
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive

__all__ = ["MultiTargeted"]


def margin(logits: Tensor, aim: Tensor) -> Tensor:
    """Logit of the target class minus that of the label (B,); a row of `aim` (B, 2) is the label and the target."""
    return logits.gather(1, aim[:, 1:])[:, 0] - logits.gather(1, aim[:, :1])[:, 0]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class MultiTargeted(Attacker):
    """PGD towards each of several classes; the radius is `eps` where no iterate of any is misclassified, else 0.

    Each run ascends on the difference between the logits of its target class and of the label, from a random point of
    the ball, by steps of a constant length. Targets are the classes with the largest logits of the unperturbed image,
    in this order.
    """

    steps: Count = 20
    restarts: Count = 1
    """Runs towards each target."""
    targets: Count = 9
    """Number of target classes; networks with fewer other classes take them all."""
    alpha: Positive | None = None
    """Step size; by default 2.5 eps / steps."""
    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 500
    """Batch size; each image is attacked separately."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    quick: ClassVar[dict[str, int]] = {"steps": 20, "restarts": 1}
    named: ClassVar[tuple[str, ...]] = ("steps", "restarts", "targets")

    @property
    def forwards(self) -> int:
        return self.restarts * self.targets * (2 * self.steps + 2) + 1

    @property
    def budget(self) -> tuple[int, int]:
        return 1, self.steps * self.restarts * self.targets

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Attack one batch after another, each image separately; the model does not change.

        A run takes `steps` + 2 forward passes, one of them to rank the targets, and `steps` backward passes, over the
        images that are still robust.
        """
        network = self.target(model, self.batch)

        def attack(x: Tensor, y: Tensor, names: Sequence[Name], number: int) -> Found:
            return self._run(network, x, y, names, number)

        return withstand(network, questions, attack, self.ball, self.restarts * self.targets, self.batch)

    def _run(self, model: nn.Module, x: Tensor, y: Tensor, names: Sequence[Name], number: int) -> Found:
        """Run `number`: towards target `number` modulo `targets`."""
        ball, rank = self.ball, number % self.targets
        with torch.no_grad():
            others = model(x).scatter(1, y[:, None], -torch.inf)
        if rank >= others.shape[1] - 1:
            return Found.nothing(x)
        target = others.argsort(dim=1, descending=True, stable=True)[:, rank]
        start = project(x + offsets(x, ball, names, number), x, ball.eps, ball.norm)
        return ascend_until_broken(
            model, x, y, start, ball, steps=self.steps, alpha=self.alpha or 2.5 * ball.eps / self.steps,
            loss=margin, aim=torch.stack([y, target], 1),
        )  # fmt: skip
