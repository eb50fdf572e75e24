"""Accuracy under one draw of noise, a measure of a smoothed classifier's base network during training."""

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier

__all__ = ["Noisy"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Noisy(Evaluation):
    """Most likely class of x + noise, with one draw for each image and radius 0."""

    kind = "noisy"
    forwards = 1

    def judge(self, model: Classifier, x: Tensor, y: int, generator_seed: tuple[int, int]) -> Judgement:
        """Judge `x` (C, H, W) in [0, 1] by a model in eval mode; NaN logits abstain."""
        seed, index = generator_seed
        generator = torch.Generator(x.device).manual_seed(1_000_003 * seed + index)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        with torch.no_grad():
            logits = model((x + self.threat.sigma * noise)[None])[0]
            prediction = torch.where(logits.isnan().any(), -1, logits.argmax())
        return Judgement(prediction=int(prediction), radius=0.0)
