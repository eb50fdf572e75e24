"""Accuracy under one draw of noise: what a smoothed classifier's base network is watched by while it trains."""

from typing import ClassVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.classifier import Classifier
from crt.judgement import Judgement
from crt.threat import Threat

__all__ = ["Noisy"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Noisy:
    """The most likely class of x + noise, one draw an image, with radius 0."""

    threat: Threat
    execution: ClassVar[tuple[str, ...]] = ()

    @torch.no_grad()
    def judge(self, model: Classifier, x: Tensor, y: int, seed: tuple[int, int]) -> Judgement:
        """Judge one image `x` (C, H, W) in [0, 1]; `seed` is (the run's, the image's)."""
        generator = torch.Generator(x.device).manual_seed(1_000_003 * seed[0] + seed[1])
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return Judgement(model((x + self.threat.sigma * noise)[None]).argmax(1).item(), 0.0, {})
