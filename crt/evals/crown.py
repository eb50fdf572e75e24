"""Deterministic l2 certificates of ReLU networks by CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass

from crt.classifier import Classifier
from crt.judgement import Judgement, Question
from crt.lipschitz.chain import chain
from crt.lipschitz.crown import check_relu, margins
from crt.lipschitz.training import needs_ball
from crt.threat import Threat

__all__ = ["CROWN"]

BATCH = 32
"""Images judged at once, each with as many copies of its layers as there are other classes."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class CROWN:
    """The network's own class within eps where linear bounds or intervals prove it, computed in float64."""

    threat: Threat

    execution: ClassVar[frozenset[str]] = frozenset()
    forwards: ClassVar[int] = 14
    """The image's own, two twice for its intervals, and one back for each other of ten classes."""

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
            layers, logits = chain(model, x.shape[1:]), model(x)
            classes = logits.argmax(1)
            both = [margins(model, layers, x, classes, self.threat.eps, beta) for beta in (1.0, 0.0)]
            sure = (torch.maximum(*both) > 0).all(1)
            found = torch.where(logits.isnan().any(1), -1, classes)
            for prediction, proved in zip(found.tolist(), sure.tolist(), strict=True):
                yield Judgement(prediction=prediction, radius=self.threat.eps if proved else 0.0)
