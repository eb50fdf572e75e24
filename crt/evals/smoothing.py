"""Certification by randomized smoothing (Cohen et al., 2019, https://arxiv.org/abs/1902.02918, figure 1)."""

import hashlib
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.stats import beta, norm
from torch import Tensor
from torch.nn import functional as F

from crt.classifier import Classifier
from crt.judgement import Judgement
from crt.quantity import Count, Real
from crt.threat import Threat

__all__ = ["Smoothing"]

BLOCK = 100
"""Draws of one generator: the unit of noise, so that the noise does not depend on the size of a forward pass."""


def pa_low(nA: int, n: int, alpha: float) -> float:
    """The Clopper-Pearson lower bound, at confidence 1 - alpha, of a probability seen `nA` times in `n`."""
    return float(beta.ppf(alpha, nA, n - nA + 1)) if nA else 0.0


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Smoothing:
    """With probability at least 1 - alpha the smoothed classifier returns this class within this l2 radius."""

    threat: Threat
    n0: Count = 100
    """Draws that select the class."""
    n: Count = 100_000
    """Fresh draws that estimate its probability."""
    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.001
    batch: Count = 1000
    """Draws in one forward pass, in whole blocks of 100."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})

    @model_validator(mode="after")
    def _can_certify(self) -> "Smoothing":
        if self.threat.sigma <= 0:
            raise ValueError("Smoothing needs sigma > 0")
        if self.alpha ** (1 / self.n) < 0.5:
            raise ValueError(f"Smoothing would always abstain: n={self.n} is too small for alpha={self.alpha:g}")
        return self

    def judge(self, model: Classifier, x: Tensor, y: int, generator_seed: tuple[int, int]) -> Judgement:
        """Certify `x` (C, H, W) in [0, 1] by a model in eval mode; the seed is (run's, image's index)."""
        with torch.no_grad():
            cA = self._counts(model, x, self.n0, (*generator_seed, 0)).argmax()
            nA = self._counts(model, x, self.n, (*generator_seed, 1))[cA]
            cA, nA = torch.stack([cA, nA]).tolist()
        pA_low = pa_low(nA, self.n, self.alpha)
        details = {"n": self.n, "nA": nA, "pA_low": pA_low}
        if pA_low < 0.5:
            return Judgement(prediction=-1, radius=0.0, details=details)
        return Judgement(prediction=cA, radius=float(self.threat.sigma * norm.ppf(pA_low)), details=details)

    def _counts(self, model: Classifier, x: Tensor, n: int, stream: tuple[int, ...]) -> Tensor:
        """How often each class has the largest logit in `n` draws, left on the device."""
        total, generator = 0, torch.Generator(x.device)
        most = max(1, self.batch // BLOCK) * BLOCK
        for start in range(0, n, most):
            size = min(most, n - start)
            noisy = x.new_empty((-(-size // BLOCK) * BLOCK, *x.shape))
            for i, block in enumerate(noisy.split(BLOCK), start // BLOCK):
                block.normal_(generator=generator.manual_seed(_seed(*stream, i)))
            logits = model(noisy[:size].mul_(self.threat.sigma).add_(x))
            # NaN is the largest to argmax: a diverged network must not be certified as class 0.
            votes = F.one_hot(logits.argmax(1), logits.shape[1]) * ~logits.isnan().any(1, keepdim=True)
            total = total + votes.sum(0)
        return total


def _seed(*words: int) -> int:
    """63 bits that share nothing with those of any other words."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1
