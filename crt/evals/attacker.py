"""Attacks as evaluations: restarts on the images that are still robust, with proof of each successful attack.

An image is broken where an attack found a point in the ball and in [0, 1] that the network puts in another class.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks.common import frozen
from crt.attacks.run import Attack, Found, classes
from crt.evals.execution import Switches
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import fold
from crt.threat import Threat

__all__: list[str] = []


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Attacker(Switches):
    """An attack; every subclass has an argument `eps`, None by default.

    The network is attacked and evaluated as it is run here: with `precision: bf16`, rounding hides small differences of
    the loss, so that its robustness is not that of the float32 network.
    """

    fold: bool = False
    """Fold BatchNorm into convolutions."""

    kind = "attack"

    @property
    @abstractmethod
    def eps(self) -> float | None:
        """Radius of the attack, None for the threat's; an argument of every subclass."""

    @model_validator(mode="after")
    def _has_a_radius(self) -> "Attacker":
        if self.ball.eps <= 0:
            raise ValueError(f"{type(self).__name__} needs eps > 0, the threat's or its own")
        return self

    @property
    def ball(self) -> Threat:
        """The threat with the radius of the attack."""
        return self.threat.model_copy(update={"eps": self.eps or self.threat.eps})

    def target(self, model: Classifier, batch: int) -> nn.Module:
        """The network to attack; if it is compiled, its batches are whole quarters of `batch` images."""
        return self.ready(fold(model).network if self.fold else model, -(-batch // 4))


def withstand(
    model: nn.Module, questions: Iterable[Question], attack: Attack, threat: Threat, restarts: int, batch: int
) -> Iterator[Judgement]:
    """Yield judgements in the order of the questions, `batch` images at a time; the model does not change.

    The prediction is that of the unperturbed image; the radius is `eps` where no attack broke the image, else 0.
    Misclassified images are not attacked.
    """
    questions = iter(questions)
    while group := list(islice(questions, batch)):
        with frozen(model):
            judged = _judge(model, group, attack, threat, restarts)
        yield from judged


def _judge(model: nn.Module, group: list[Question], attack: Attack, threat: Threat, restarts: int) -> list[Judgement]:
    x = torch.stack([image for image, _, _ in group])
    y = torch.tensor([label for _, label, _ in group], device=x.device)
    with torch.no_grad():
        clean = classes(model(x))
    robust = (clean == y).nonzero().flatten()
    broken: dict[int, dict[str, Any]] = {}
    for restart in range(restarts):
        if not len(robust):
            break
        names = [group[place][2] for place in robust.tolist()]
        result = attack(x[robust], y[robust], names, restart)
        broken |= zip(robust[result.broken].tolist(), _proof(x[robust], result, threat, restart), strict=True)
        robust = robust[~result.broken]
    kept = set(robust.tolist())
    return [
        Judgement(
            prediction=prediction,
            radius=threat.eps if place in kept else 0.0,
            skipped=place not in kept and place not in broken,
            details=broken.get(place, {}),
        )
        for place, prediction in enumerate(clean.tolist())
    ]


def _proof(x: Tensor, result: Found, threat: Threat, restart: int) -> list[dict[str, Any]]:
    """Details of each broken image; RuntimeError where an adversarial image lies outside the ball or [0, 1]."""
    at = result.adversarial[result.broken]
    d = (at.double() - x[result.broken].double()).flatten(1)
    norms = torch.linalg.vector_norm(d, ord=torch.inf if threat.norm == "linf" else 2, dim=1)
    # Pixels near 1 are rounded by this much, however small eps is.
    rounding = torch.finfo(x.dtype).eps * (1 if threat.norm == "linf" else d[:1].numel() ** 0.5)
    if not bool((norms <= threat.eps * (1 + 1e-5) + rounding).all() & (at >= 0).all() & (at <= 1).all()):
        raise RuntimeError(f"an adversarial image left the {threat.norm} ball of radius {threat.eps:g} or [0, 1]")
    columns = (norms, result.iterations[result.broken], result.prediction[result.broken])
    return [
        {"norm": norm, "iterations": iterations, "restart": restart, "adversarial": prediction}
        for norm, iterations, prediction in zip(*(column.tolist() for column in columns), strict=True)
    ]
