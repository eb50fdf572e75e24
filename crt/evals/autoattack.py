"""Standard AutoAttack (Croce and Hein, 2020, https://arxiv.org/abs/2003.01690), by the authors' package."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks.run import Found, Name, classes
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive

__all__ = ["AutoAttack"]

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
"""Names of the attacks in order; each runs on the images that are robust to the previous ones."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class AutoAttack(Attacker):
    """Four attacks by the authors' package; the radius is `eps` where none of them broke the image, else 0.

    The first attack, whose package goes on with broken images to its end, computes the network for the others alone.
    The package draws random numbers for whole batches, so a judgement depends on the images of its batch. Its details
    contain the number of the attack that broke the image, in the order of `ATTACKS`.
    """

    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 250
    """Batch size."""

    forwards = 200 + 9 * 200 + 9 * 300 + 5000
    """Passes of the four attacks, with nine targets, on an image that is robust to all of them."""
    budget = (len(ATTACKS), 0)

    @model_validator(mode="after")
    def _is_installed(self) -> "AutoAttack":
        if not find_spec("pyautoattack"):
            raise ValueError("AutoAttack needs a package that is not installed (pip install pyautoattack)")
        return self

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Attack one batch after another; the model does not change. ValueError where it has fewer than 4 classes."""
        network = self.target(model, self.batch)

        def attack(x: Tensor, y: Tensor, names: Sequence[Name], number: int) -> Found:
            return self._run(network, x, y, names[0][0], ATTACKS[number])

        for judged in withstand(network, questions, attack, self.ball, len(ATTACKS), self.batch):
            if details := judged.details:
                kept = {"attack": details["restart"], "norm": details["norm"], "adversarial": details["adversarial"]}
                judged = replace(judged, details=kept)
            yield judged

    def _run(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, attack: str) -> Found:
        import pyautoattack

        with torch.no_grad():
            others = model(x[:1]).shape[1] - 1
        if others < 3:
            raise ValueError(f"AutoAttack needs 4 classes, and the network has {others + 1} (allowed: AutoPGD)")
        norm = {"linf": "Linf", "l2": "L2"}[self.ball.norm]
        leaving = Leaving(model, x, y)
        # The first attack asks for all images of the batch at each step; the others choose among them.
        asked = leaving if attack == "apgd-ce" else model
        ensemble = pyautoattack.AutoAttack(asked, eps=self.ball.eps, norm=norm, seed=seed, device=x.device)
        ensemble.attacks_to_run = [attack]
        ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = min(9, others)
        # The package seeds the global generators.
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            adversarial, _ = ensemble.run_standard_evaluation(x, y, batch_size=len(x))
        if attack == "apgd-ce":
            return leaving.found
        result = Found.nothing(x)
        with torch.no_grad():
            result.note(torch.arange(len(x), device=x.device), adversarial, y, classes(model(adversarial)), 0)
        return result


class Leaving(nn.Module):
    """A network that computes the images which are not broken yet, each of which keeps its place in the batch.

    An image is broken by the first point at which it is misclassified. From then on its logits are those of that point,
    with a gradient of zero.
    """

    def __init__(self, network: nn.Module, x: Tensor, y: Tensor):
        super().__init__()
        self.network, self.y, self.found = network, y, Found.nothing(x)
        self.logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        place = (~self.found.broken).nonzero().flatten()
        if self.logits is None:
            logits = self.network(x)
        else:
            # The term keeps the graph that the attack differentiates where no image is left.
            logits = self.logits + 0 * x.flatten(1)[:, :1]
            if len(place):
                logits = logits.index_put((place,), self.network(x[place]))
        self.logits = logits.detach()
        self.found.note(place, x.detach()[place], self.y[place], classes(self.logits[place]), 0)
        return logits
