"""Attacks as evaluations: restart after restart on the images that still stand, and the proof of what broke the others.

An image is broken where an attack found a point of the ball and of [0, 1] that the network puts in another class.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks import frozen, l2, wide
from crt.classifier import Classifier
from crt.fold import fold
from crt.judgement import Judgement, Question
from crt.ready import Switches
from crt.threat import Threat

Name = tuple[int, int]
"""Seed of an image's draws: the run's seed and the image's index."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, classes) and labels (B,) to what an attack increases, (B,)."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Attacker(Switches):
    """An attack; a subclass has `eps` among its arguments, None by default.

    Attacked, and asked whether it was fooled, is the network as it is run here: with `precision: bf16` one whose
    rounding hides small differences of its loss, so that its robustness is not that of the network in float32.
    """

    fold: bool = False
    """Fold BatchNorm into convolutions."""

    kind = "attack"

    @property
    @abstractmethod
    def eps(self) -> float | None:
        """The radius, if not the threat's; an argument of every subclass."""

    @model_validator(mode="after")
    def _has_a_radius(self) -> "Attacker":
        if self.ball.eps <= 0:
            raise ValueError(f"{type(self).__name__} needs eps > 0, the threat's or its own")
        return self

    @property
    def ball(self) -> Threat:
        """The threat, with the radius of the attack."""
        return self.threat.model_copy(update={"eps": self.eps or self.threat.eps})

    def target(self, model: Classifier, batch: int) -> nn.Module:
        """The network to attack; where it is compiled, for batches of whole quarters of `batch` images."""
        return self.ready(fold(model).network if self.fold else model, -(-batch // 4))


class Found(NamedTuple):
    """Result of one run of an attack on each image."""

    broken: Tensor
    """(B,), of bool."""
    adversarial: Tensor
    """(B, C, H, W), the images themselves where nothing was found."""
    prediction: Tensor
    """(B,), the class there."""
    iterations: Tensor
    """(B,), the steps taken to get there."""

    @classmethod
    def nothing(cls, x: Tensor) -> "Found":
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return cls(none.bool(), x.clone(), none.clone(), none.clone())

    def note(self, place: Tensor, x: Tensor, y: Tensor, prediction: Tensor, iterations: int) -> Tensor:
        """Note which images `x`, at the places `place` of the batch, are in other classes than `y`: a mask of them."""
        fooled = prediction != y
        if fooled.any():
            at = place[fooled]
            self.broken[at], self.iterations[at] = True, iterations
            self.adversarial[at], self.prediction[at] = x[fooled], prediction[fooled]
        return fooled


Attack = Callable[[Tensor, Tensor, Sequence[Name], int], Found]
"""One run on images (B, C, H, W) with labels (B,), their names, and the number of the restart."""


def withstand(
    model: nn.Module, questions: Iterable[Question], attack: Attack, threat: Threat, restarts: int, batch: int
) -> Iterator[Judgement]:
    """Judgements in the order of the questions, made `batch` images at a time; the model stays as it is.

    The prediction is the network's own; the radius is `eps` where no attack broke it, else 0. Images that the network
    puts in another class than their label's are not attacked.
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
    standing = (clean == y).nonzero().flatten()
    broken: dict[int, dict[str, Any]] = {}
    for restart in range(restarts):
        if not len(standing):
            break
        names = [group[place][2] for place in standing.tolist()]
        found = attack(x[standing], y[standing], names, restart)
        broken |= zip(standing[found.broken].tolist(), _proof(x[standing], found, threat, restart), strict=True)
        standing = standing[~found.broken]
    kept = set(standing.tolist())
    return [
        Judgement(
            prediction=prediction,
            radius=threat.eps if place in kept else 0.0,
            skipped=place not in kept and place not in broken,
            details=broken.get(place, {}),
        )
        for place, prediction in enumerate(clean.tolist())
    ]


def _proof(x: Tensor, found: Found, threat: Threat, restart: int) -> list[dict[str, Any]]:
    """Details of each broken image; RuntimeError where an adversarial image leaves the ball or [0, 1]."""
    at = found.adversarial[found.broken]
    d = (at.double() - x[found.broken].double()).flatten(1)
    norms = torch.linalg.vector_norm(d, ord=torch.inf if threat.norm == "linf" else 2, dim=1)
    # Pixels near 1 are rounded by this much, however small eps is.
    rounding = torch.finfo(x.dtype).eps * (1 if threat.norm == "linf" else d[:1].numel() ** 0.5)
    if not bool((norms <= threat.eps * (1 + 1e-5) + rounding).all() & (at >= 0).all() & (at <= 1).all()):
        raise RuntimeError(f"an adversarial image left the {threat.norm} ball of radius {threat.eps:g} or [0, 1]")
    columns = (norms, found.iterations[found.broken], found.prediction[found.broken])
    return [
        {"norm": norm, "iterations": iterations, "restart": restart, "adversarial": prediction}
        for norm, iterations, prediction in zip(*(column.tolist() for column in columns), strict=True)
    ]


def classes(logits: Tensor) -> Tensor:
    """The class of the largest logit of each; -1, which is no class, where a logit is NaN."""
    # NaN is the largest to argmax: a diverged network must not be certified as class 0.
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def look(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, differentiate: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,), its gradient (B, C, H, W) and class (B,) at images `x`: one forward pass, one backward to the input.

    Zeros stand for a gradient that was not asked for.
    """
    x = x.detach().requires_grad_(differentiate)
    with torch.set_grad_enabled(differentiate):
        logits = model(x)
        values = loss(wide(logits), y)
    g = torch.autograd.grad(values.sum(), x)[0] if differentiate else torch.zeros_like(x)
    return values.detach(), g, classes(logits.detach())


def steepest(g: Tensor, threat: Threat) -> Tensor:
    """The direction of unit norm in which a loss with the gradient `g` (B, C, H, W), however small, rises most."""
    return g.sign() if threat.norm == "linf" else g / (l2(g) + 1e-12)


def offsets(x: Tensor, threat: Threat, names: Sequence[Name], restart: int, full: bool = False) -> Tensor:
    """Offsets (B, C, H, W) uniform in the ball or, when `full`, of norm eps, each of a generator of its own image's."""
    drawn, generator = [], torch.Generator()
    for name in names:
        generator.manual_seed(int(np.random.SeedSequence((*name, restart)).generate_state(1, np.uint64)[0]))
        if threat.norm == "linf":
            d = 2 * torch.rand(x.shape[1:], generator=generator, dtype=torch.double) - 1
            drawn.append(d / d.abs().max() if full else d)
        else:
            d = torch.randn(x.shape[1:], generator=generator, dtype=torch.double)
            reach = 1.0 if full else torch.rand((), generator=generator, dtype=torch.double) ** (1 / d.numel())
            drawn.append(d / torch.linalg.vector_norm(d) * reach)
    return threat.eps * torch.stack(drawn).to(x)
