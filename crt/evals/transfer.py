"""Transferred adversarial images (Szegedy et al., 2014, https://arxiv.org/abs/1312.6199): made on another network."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.common import frozen
from crt.attacks.pgd import pgd, project
from crt.attacks.run import Found, Name, classes, offsets
from crt.evals.attacker import Attacker, withstand
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.models.import_weights.checkpoint_file import sha256_of
from crt.models.import_weights.load import load_weights
from crt.plugins import declaration, find
from crt.quantity import Count, Positive

__all__ = ["Transfer"]

_DIGITS = 8
"""Hex digits of a file's SHA-256 that identify it in results."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Transfer(Attacker):
    """PGD on another network, judged on this one; the radius is `eps` where no restart's image breaks it, else 0.

    The other network is the cell's teacher, or that of a file of weights, such as `runs/CELL/model.pt`, which
    normalizes as this one. Each restart makes one image, after all of its steps.
    """

    weights: str | None = None
    """File of the other network's weights; by default, the cell's teacher is the other network."""
    arch: str | None = None
    """Architecture of the network in the file."""
    sha256: str | None = None
    """SHA-256 of the file, or at least its first eight digits; another file is refused."""
    normalize: bool | None = None
    """True if the network in the file expects normalized pixels (default: read from the file)."""
    key: str | None = None
    """Key of the state dict to use in a file that holds several."""
    steps: Count = 20
    restarts: Count = 1
    alpha: Positive | None = None
    """Step size; by default 2.5 eps / steps."""
    eps: Positive | None = None
    """Radius of the attack; by default the threat's."""
    batch: Count = 500
    """Batch size; each image is attacked separately."""
    teacher: Any = None
    """The cell's teacher, bound when it judges."""

    # The path of a file says nothing of its network; its SHA-256 does.
    execution: ClassVar[frozenset[str]] = frozenset({"batch", "weights"})
    quick: ClassVar[dict[str, int]] = {"steps": 20, "restarts": 1}
    named: ClassVar[tuple[str, ...]] = ("steps", "restarts")

    @model_validator(mode="after")
    def _names_a_network(self) -> "Transfer":
        if self.weights is None:
            given = [key for key in ("arch", "sha256", "normalize", "key") if getattr(self, key) is not None]
            if given:
                raise ValueError(f"{given[0]} without weights (allowed: with weights, the path of a file)")
            return self
        if self.arch is None:
            raise ValueError("weights without arch (allowed: with arch, the architecture of the network in the file)")
        declaration("crt.archs", self.arch)
        found = sha256_of(Path(self.weights))
        expected = (self.sha256 or found).lower()
        if len(expected) < _DIGITS or not found.startswith(expected):
            raise ValueError(f"sha256: {self.sha256} (the file's is {found})")
        self.sha256 = found[:_DIGITS]
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.weights is None

    @property
    def forwards(self) -> int:
        # Passes of the other network count as if they were this one's.
        return self.restarts * (2 * self.steps + 1) + 1

    @property
    def budget(self) -> tuple[int, int]:
        # The images are not made for this network: its effort stands beside no number of steps.
        return 1, 0

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Judge one batch after another, each image separately; neither network changes.

        A restart takes `steps` forward and backward passes of the other network and a forward pass of this one, over
        the images that are still robust.
        """
        other, network, ball = self._other(model), self.target(model, self.batch), self.ball
        alpha = self.alpha or 2.5 * ball.eps / self.steps

        def attack(x: Tensor, y: Tensor, names: Sequence[Name], restart: int) -> Found:
            start = project(x + offsets(x, ball, names, restart), x, ball.eps, ball.norm)
            with frozen(other) as source:
                made = pgd(source, x, y, start, ball, alpha, self.steps)
            found, place = Found.nothing(x), torch.arange(len(x), device=x.device)
            with torch.no_grad():
                found.note(place, made, y, classes(network(made)), self.steps)
            return found

        return withstand(network, questions, attack, ball, self.restarts, self.batch)

    def _other(self, model: Classifier) -> Classifier:
        """The network to attack; ValueError where there is none."""
        if self.weights is None:
            if self.teacher is None:
                raise ValueError("Transfer: no other network (allowed: weights and arch, or a cell with a teacher)")
            return self.teacher
        body, width = find("crt.archs", self.arch or "")()
        constants = (model.normalize.mean.flatten().tolist(), model.normalize.std.flatten().tolist())
        other = Classifier(body, width, model.head.out_features, *constants, clamp=model.normalize.clamp)
        load_weights(other, Path(self.weights), None, normalize=self.normalize, key=self.key)
        return other.eval().to(model.head.weight)
