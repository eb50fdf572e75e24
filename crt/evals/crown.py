"""Deterministic l2 certificates of ReLU networks by CROWN-IBP (Zhang et al., 2020,
https://arxiv.org/abs/1906.06316)."""

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
"""Images judged at once, each with as many copies of its layers as there are other classes."""
DECIMALS = 6
"""Decimals of losses: more would depend on which images are judged at once."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class CROWN(Evaluation):
    """The network's own class within eps where linear bounds or intervals prove it, computed in float64.

    Besides, the cross-entropy (`loss`) and that of the worst logits within eps (`worst_loss`).
    """

    eps: Positive | None = None
    """By default the threat's."""

    kind = "bound"
    forwards = 270
    """The image's own, two twice for its intervals and one back for each other of ten classes; and, where the class is
    wrong, those of its label. Two cores take ten times as long for each in float64."""

    @model_validator(mode="after")
    def _has_a_ball(self) -> "CROWN":
        needs_ball(self.threat)
        return self

    def fits(self, model: Classifier) -> None:
        """ValueError that names a layer which has no bound."""
        check_relu(model)

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify images (C, H, W) in [0, 1] by a model in eval mode, which stays as it is; NaN logits abstain."""
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
            # A class's own margin is 0, and the first.
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
        """Lower bounds (B, classes - 1) of the margins, the better of linear bounds' and of intervals'."""
        return torch.maximum(*(margins(model, layers, x, classes, self._eps, beta) for beta in (1.0, 0.0)))
