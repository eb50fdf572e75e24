"""Clean accuracy: the network's own class, without a certificate."""

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier

__all__ = ["Clean"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Clean(Evaluation):
    """Class of the largest logit, with radius 0."""

    kind = "clean"
    forwards = 1

    def judge(self, model: Classifier, x: Tensor, y: int, generator_seed: tuple[int, int]) -> Judgement:
        """Judge `x` (C, H, W) in [0, 1] by a model in eval mode; NaN logits abstain."""
        with torch.no_grad():
            logits = model(x[None])[0]
            prediction = torch.where(logits.isnan().any(), -1, logits.argmax())
        return Judgement(prediction=int(prediction), radius=0.0)
