"""Deterministic l2 certificates of ReLU networks: CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.evals.base import Evaluation
from crt.judgement import Judgement, Question
from crt.lipschitz.chain import Layer, chain
from crt.lipschitz.crown import check_relu, margins
from crt.lipschitz.training import needs_ball
from crt.models.classifier import Classifier
from crt.quantity import Positive

__all__ = ["CROWN"]

BATCH = 32
"""Batch size; each image needs as many copies of its layers as there are other classes."""
DECIMALS = 6
"""Decimals of losses; further ones would depend on the other images of the batch."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class CROWN(Evaluation):
    """The network's class, certified within eps where linear bounds or intervals prove it, computed in float64.

    Details are the cross-entropy (`loss`) and the cross-entropy of the worst logits within eps (`worst_loss`).
    """

    eps: Positive | None = None
    """Radius of the ball; by default the threat's."""

    kind = "bound"
    forwards = 270
    """Cost in float32 passes, ten for each in float64 on two cores.

    They are one for the image, two for its intervals twice, one backward for each other of ten classes, and those of
    its label where the class is wrong.
    """

    @model_validator(mode="after")
    def _has_a_ball(self) -> "CROWN":
        needs_ball(self.threat)
        return self

    def fits(self, model: Classifier) -> None:
        """Raise ValueError with the name of a layer that has no bound."""
        check_relu(model)

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify images (C, H, W) in [0, 1] by a model in eval mode, which does not change; NaN logits abstain."""
        questions, model = iter(questions), copy.deepcopy(model).double()
        while group := list(islice(questions, BATCH)):
            x = torch.stack([image for image, _, _ in group]).double()
            labels = torch.tensor([label for _, label, _ in group], device=x.device)
            layers, logits = chain(model, x.shape[1:]), model(x)
            classes = logits.argmax(1)
            least = self._margins(model, layers, x, classes)
            sure, wrong = (least > 0).all(1), classes != labels
            if wrong.any():
                least[wrong] = self._margins(model, layers, x[wrong], labels[wrong])
            # A class's margin to itself is 0 and comes first.
            worst = F.cross_entropy(F.pad(-least, (1, 0)), torch.zeros_like(labels), reduction="none")
            loss = F.cross_entropy(logits, labels, reduction="none")
            columns = (torch.where(logits.isnan().any(1), -1, classes), sure, loss, worst)
            for prediction, proved, own, least_sure in zip(*(column.tolist() for column in columns), strict=True):
                yield Judgement(
                    prediction=prediction,
                    radius=self._eps if proved else 0.0,
                    details={"loss": round(own, DECIMALS), "worst_loss": round(least_sure, DECIMALS)},
                )

    @property
    def _eps(self) -> float:
        return self.eps or self.threat.eps

    def _margins(self, model: Classifier, layers: tuple[Layer, ...], x: Tensor, classes: Tensor) -> Tensor:
        """Lower bounds (B, classes - 1) of the margins, each the better one from linear bounds or intervals."""
        return torch.maximum(*(margins(model, layers, x, classes, self._eps, beta) for beta in (1.0, 0.0)))
