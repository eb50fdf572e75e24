"""Accuracy under common corruptions (Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from crt.attacks.run import classes
from crt.data.corruptions import corrupt
from crt.evals.base import Evaluation
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.quantity import Count

__all__ = ["Corrupted"]

Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "brightness",
    "contrast",
    "jpeg",
    "pixelate",
]
"""Names in `crt.data.corruptions`."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Corrupted(Evaluation):
    """Class of the corrupted image, with radius 0; images are corrupted here, each with its own random numbers.

    Formulas and severities are those of CIFAR-10-C, and of ImageNet-C for images of more than 64 pixels a side. Its
    weather, digital zoom and further blurs are missing.
    """

    corruption: Corruption = "gaussian_noise"
    severity: Annotated[Count, Field(le=5)] = 3
    """Strength of the corruption, from 1 to 5."""
    batch: Count = 500
    """Batch size."""

    kind = "corrupted"
    forwards = 1
    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    named: ClassVar[tuple[str, ...]] = ("corruption", "severity")

    @torch.no_grad()
    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Judge images (C, H, W) in [0, 1] by a model in eval mode; NaN logits abstain."""
        questions = iter(questions)
        while group := list(islice(questions, self.batch)):
            x = torch.stack([image for image, _, _ in group])
            images = x.permute(0, 2, 3, 1).double().cpu().numpy()
            changed = np.stack(
                [
                    corrupt(image, self.corruption, self.severity, name)
                    for image, (_, _, name) in zip(images, group, strict=True)
                ]
            )
            corrupted = torch.from_numpy(changed).permute(0, 3, 1, 2).to(x).contiguous()
            for prediction in classes(model(corrupted)).tolist():
                yield Judgement(prediction=prediction, radius=0.0)
