"""Deterministic l2 certificates by Lipschitz constants (https://arxiv.org/abs/1802.04034) and boxes (2010.06182)."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.classifier import Classifier
from crt.judgement import Judgement, Question
from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import Layer, chain, check
from crt.lipschitz.local import local_forwards, local_region
from crt.lipschitz.measures import features_constant
from crt.lipschitz.norms import Norms, final_norms
from crt.lipschitz.training import needs_ball
from crt.lipschitz.translation import over_both, radius, wins
from crt.quantity import Positive
from crt.threat import Threat

__all__ = ["Lipschitz"]

BATCH = 256
"""Images judged at once."""
GRAIN = 1e6
"""Radii are rounded down to a millionth, so that they do not hang on which images are judged at once."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Lipschitz:
    """The network's own class within the radius that its Lipschitz constant proves, or within eps where boxes prove it.

    Computed in float64. With norms by power iteration, which finds them from below, it is as published but no proof.
    Local bounds are boxes with norms of each image's own (https://arxiv.org/abs/2111.01395). Those start from random
    vectors, and as bounds they hold with probability 1 - 1e-9 for each layer and image.
    """

    threat: Threat
    bounds: Literal["global", "box", "local"] = "global"
    norms: Norms = "fft_upper"
    eps: Positive | None = None
    """The radius that boxes are asked for; by default the threat's."""

    execution: ClassVar[frozenset[str]] = frozenset()
    named: ClassVar[tuple[str, ...]] = ("bounds", "norms")

    @model_validator(mode="after")
    def _has_a_ball(self) -> "Lipschitz":
        needs_ball(self.threat)
        return self

    @property
    def forwards(self) -> int:
        """The image's own, its ball's and its box's two; and those of its own norms."""
        return 4 + (self.bounds == "local") * local_forwards(self.norms)

    def fits(self, model: Classifier) -> None:
        """ValueError that names a layer which has no bound."""
        check(model)

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify images (C, H, W) in [0, 1] by a model in eval mode, which stays as it is; NaN logits abstain."""
        questions, layers = iter(questions), ()
        while group := list(islice(questions, BATCH)):
            x = torch.stack([image for image, _, _ in group]).double()
            if not layers:
                model = copy.deepcopy(model).double()
                layers = chain(model, x.shape[1:])
                norms = final_norms(layers[:-1], self.norms)
            logits = model(x)
            classes = logits.argmax(1)
            seeds = [1_000_003 * seed + index for _, _, (seed, index) in group]
            radii = self._radii(model, layers, norms, x, logits, classes, seeds)
            known = ~logits.isnan().any(1)
            found = zip(torch.where(known, classes, -1).tolist(), torch.where(known, radii, 0).tolist(), strict=True)
            yield from (Judgement(prediction=prediction, radius=r) for prediction, r in found)

    def _radii(
        self,
        model: Classifier,
        layers: tuple[Layer, ...],
        norms: dict[str, Tensor],
        x: Tensor,
        logits: Tensor,
        classes: Tensor,
        seeds: list[int],
    ) -> Tensor:
        """The radius (B,) in which each image's class is certain."""
        weight, eps = model.head.weight, self.eps or self.threat.eps
        if self.bounds == "global":
            found = radius(logits, weight, classes, features_constant(model, layers, norms))
            return (found * GRAIN).floor() / GRAIN
        if self.bounds == "box":
            region = before_head(model, layers, x, eps, norms)
        else:
            region = local_region(model, layers, x, eps, norms, self.norms, seeds)
        worst = logits + over_both(weight, classes, region, None)
        return eps * wins(logits, worst, classes).to(x.dtype)
