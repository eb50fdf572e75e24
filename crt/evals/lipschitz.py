"""Deterministic l2 certificates by Lipschitz constants (https://arxiv.org/abs/1802.04034) and boxes (2010.06182)."""

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.evals.base import Evaluation
from crt.judgement import Judgement, Question
from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import Layer, chain, check
from crt.lipschitz.local import local_forwards, local_region
from crt.lipschitz.measures import features_constant
from crt.lipschitz.norms import Norms, final_norms
from crt.lipschitz.training import needs_ball
from crt.lipschitz.translation import over_ball, over_both, radius, wins
from crt.models.classifier import Classifier
from crt.quantity import Positive

__all__ = ["Lipschitz"]

BATCH = 256
"""Batch size."""
GRAIN = 1e6
"""Reciprocal of the unit that radii are rounded down to, so that they do not depend on the batch's other images."""
FLOAT64 = 10
"""Cost of a forward pass in float64, in passes in float32, for such networks on two cores."""
DECIMALS = 6
"""Decimals of losses, rounded for the same reason."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Lipschitz(Evaluation):
    """The network's class, certified within the radius from its Lipschitz constant, or within eps by boxes.

    It is computed in float64. Norms by power iteration are lower bounds: the result is then as published, but no proof.
    Local bounds are boxes with norms of each image's own (https://arxiv.org/abs/2111.01395); they start from random
    vectors, and as bounds they hold with probability 1 - 1e-9 for each layer and image. Details are the cross-entropy
    (`loss`) and the cross-entropy of the worst logits within eps (`worst_loss`).
    """

    bounds: Literal["global", "box", "local"] = "global"
    norms: Norms = "fft_upper"
    eps: Positive | None = None
    """Radius for boxes and worst logits; by default the threat's."""

    kind = "bound"
    named: ClassVar[tuple[str, ...]] = ("bounds", "norms")

    @model_validator(mode="after")
    def _has_a_ball(self) -> "Lipschitz":
        needs_ball(self.threat)
        return self

    @property
    def forwards(self) -> int:
        """Cost in float32 passes: one for the image, two for its ball and its box, and those for its own norms."""
        return FLOAT64 * (4 + (self.bounds == "local") * local_forwards(self.norms))

    @property
    def measures_radius(self) -> bool:
        """True for bounds by the Lipschitz constant alone; the others know no radius but eps."""
        return self.bounds == "global"

    def fits(self, model: Classifier) -> None:
        """Raise ValueError with the name of a layer that has no bound."""
        check(model)

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify images (C, H, W) in [0, 1] by a model in eval mode, which does not change; NaN logits abstain."""
        questions = iter(questions)
        layers: tuple[Layer, ...] = ()
        while group := list(islice(questions, BATCH)):
            x = torch.stack([image for image, _, _ in group]).double()
            if not layers:
                model = copy.deepcopy(model).double()
                layers = chain(model, x.shape[1:])
                norms = final_norms(layers[:-1], self.norms)
            logits, labels = model(x), torch.tensor([label for _, label, _ in group], device=x.device)
            classes = logits.argmax(1)
            seeds = [1_000_003 * seed + index for _, _, (seed, index) in group]
            moves = self._moves(model, layers, norms, x, seeds)
            if self.bounds == "global":
                radii = radius(logits, model.head.weight, classes, features_constant(model, layers, norms))
                radii = (radii * GRAIN).floor() / GRAIN
            else:
                radii = self._eps * wins(logits, logits + moves(classes), classes).to(x.dtype)
            known = ~logits.isnan().any(1)
            losses = [F.cross_entropy(z, labels, reduction="none") for z in (logits, logits + moves(labels))]
            columns = (torch.where(known, classes, -1), torch.where(known, radii, 0), *losses)
            for prediction, r, loss, worst in zip(*(column.tolist() for column in columns), strict=True):
                details = {"loss": round(loss, DECIMALS), "worst_loss": round(worst, DECIMALS)}
                yield Judgement(prediction=prediction, radius=r, details=details)

    @property
    def _eps(self) -> float:
        return self.eps or self.threat.eps

    def _moves(
        self, model: Classifier, layers: tuple[Layer, ...], norms: dict[str, Tensor], x: Tensor, seeds: list[int]
    ) -> Callable[[Tensor], Tensor]:
        """Function of classes (B,): largest increase within eps of each logit (B, classes) relative to the class's."""
        weight = model.head.weight
        if self.bounds == "global":
            rho = self._eps * features_constant(model, layers, norms)
            return lambda classes: over_ball(weight, classes, rho)
        if self.bounds == "box":
            region = before_head(model, layers, x, self._eps, norms)
        else:
            region = local_region(model, layers, x, self._eps, norms, self.norms, seeds)
        return lambda classes: over_both(weight, classes, region, None)
