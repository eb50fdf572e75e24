"""Certificates in l2 and l-infinity by lower bounds of the margins between logits."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.evals.base import Evaluation
from crt.judgement import Judgement, Question
from crt.lipschitz.chain import Layer
from crt.lipschitz.intervals import Ball, ball, worst_losses
from crt.lipschitz.statistics import fixed
from crt.lipschitz.training import needs_ball
from crt.models.classifier import Classifier

__all__: list[str] = []

DECIMALS = 6
"""Decimals of losses; further ones would depend on the other images of the batch."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Margins(Evaluation):
    """The network's class, certified within eps where all margins are above 0, computed in float64.

    An l-infinity ball is a box within [0, 1]. BatchNorm has its running statistics. Every subclass has an argument
    `eps`, None by default, and a batch size.
    """

    kind = "bound"
    batch_size: ClassVar[int]

    @property
    @abstractmethod
    def eps(self) -> float | None:
        """Radius of the ball, None for the threat's; an argument of every subclass."""

    @model_validator(mode="after")
    def _has_a_ball(self) -> "Margins":
        needs_ball(self.threat, ("l2", "linf"))
        return self

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify images (C, H, W) in [0, 1] by a model in eval mode, which does not change; NaN logits abstain."""
        questions, model, eps = iter(questions), copy.deepcopy(model).double(), self.eps or self.threat.eps
        while group := list(islice(questions, self.batch_size)):
            x = torch.stack([image for image, _, _ in group]).double()
            labels = torch.tensor([label for _, label, _ in group], device=x.device)
            layers, logits = fixed(model, x).layers, model(x)
            classes = logits.argmax(1)
            least = self.margins(model, layers, ball(x, eps, self.threat.norm), classes)
            sure, wrong = (least > 0).all(1), classes != labels
            if wrong.any():
                least[wrong] = self.margins(model, layers, ball(x[wrong], eps, self.threat.norm), labels[wrong])
            worst, loss = worst_losses(least), F.cross_entropy(logits, labels, reduction="none")
            columns = (torch.where(logits.isnan().any(1), -1, classes), sure, loss, worst)
            for prediction, proved, own, least_sure in zip(*(column.tolist() for column in columns), strict=True):
                yield Judgement(
                    prediction=prediction,
                    radius=eps if proved else 0.0,
                    details={"loss": round(own, DECIMALS), "worst_loss": round(least_sure, DECIMALS)},
                )

    @abstractmethod
    def margins(self, model: Classifier, layers: tuple[Layer, ...], images: Ball, y: Tensor) -> Tensor:
        """Lower bounds (B, classes - 1) of the logit of `y` (B,) minus each other logit, over a ball of images."""
