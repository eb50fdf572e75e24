"""Square attack (Andriushchenko et al., 2020, https://arxiv.org/abs/1912.00049) as an evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.run import Found, Name
from crt.attacks.square import square
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive, Share

__all__ = ["Square"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Square(Attacker):
    """Random search without gradients; the radius is `eps` where no proposal is misclassified, else 0.

    It breaks networks whose gradients mislead other attacks. Windows are drawn for each image, as in the paper's
    algorithms 1 to 3; the authors' code draws one for a whole batch.
    """

    steps: Count = 5000
    """Proposals, each a forward pass; AutoAttack makes 5,000."""
    restarts: Count = 1
    p: Share = 0.8
    """Share of the pixels in the first windows, as in AutoAttack."""
    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 500
    """Batch size; each image is attacked separately."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    quick: ClassVar[dict[str, int]] = {"steps": 100, "restarts": 1}
    named: ClassVar[tuple[str, ...]] = ("steps", "restarts")

    @property
    def forwards(self) -> int:
        return self.restarts * (self.steps + 1) + 1

    @property
    def budget(self) -> tuple[int, int]:
        # Without a gradient, a step finds far less than one of PGD: its effort stands beside no number of steps.
        return 1, 0

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Attack one batch after another, each image separately; the model does not change.

        A restart takes `steps` + 1 forward passes, over the images that are still robust.
        """
        network = self.target(model, self.batch)

        @torch.no_grad()
        def attack(x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
            return square(network, x, y, names, restart, self.ball, steps=self.steps, p=self.p)

        return withstand(network, questions, attack, self.ball, self.restarts, self.batch)
