"""Certification by randomized smoothing (Cohen et al., 2019, https://arxiv.org/abs/1902.02918, figure 1)."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.special import betaincinv, ndtri
from torch import Tensor, nn

from crt.attacks.run import classes
from crt.evals.execution import Switches
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import fold
from crt.quantity import Count, Real

__all__ = ["Smoothing"]

BLOCK = 100
"""Draws from one generator: the unit of noise, so that the noise does not depend on the batch size."""


def pa_low(nA: int, n: int, alpha: float) -> float:
    """Clopper-Pearson lower bound, with confidence 1 - alpha, of a probability after `nA` successes in `n`."""
    return float(betaincinv(nA, n - nA + 1, alpha)) if nA else 0.0


def least(n: int, alpha: float) -> int:
    """The smallest count in `n` that certifies a radius; n + 1 if none does."""
    return bisect_left(range(n + 1), 0.5, key=lambda nA: pa_low(nA, n, alpha))


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Smoothing(Switches):
    """With probability at least 1 - alpha, the smoothed classifier returns this class within this l2 radius.

    The smoothed classifier is that of the network as it is run here: with folded BatchNorm and in `precision`.
    """

    n0: Count = 100
    """Number of draws that select the class."""
    n: Count = 100_000
    """Number of fresh draws that estimate its probability."""
    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.001
    skip_wrong: bool = True
    """Skip the estimation where the selected class is not the label; ACR and certified accuracy do not change."""
    batch: Count | None = None
    """Draws in one forward pass, a multiple of 100; by default 1000 on a GPU, else 100."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    unsaid: ClassVar[frozenset[str]] = frozenset({"compile"})
    quick: ClassVar[dict[str, int]] = {"n0": 10}
    steady: ClassVar[bool] = True

    kind = "smoothing"
    draws = "n"

    @model_validator(mode="after")
    def _can_certify(self) -> "Smoothing":
        if self.threat.sigma <= 0:
            raise ValueError("Smoothing needs sigma > 0")
        if self.alpha ** (1 / self.n) < 0.5:
            raise ValueError(f"Smoothing would always abstain: n={self.n} is too small for alpha={self.alpha:g}")
        return self

    @property
    def forwards(self) -> int:
        return self.n0 + self.n

    @property
    def most(self) -> int:
        """Largest number of draws in one forward pass."""
        return max(1, (self.batch or (1000 if torch.cuda.is_available() else 100)) // BLOCK) * BLOCK

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Certify one image after another by a model in eval mode, which does not change.

        Classes are selected for as many images at once as fill a forward pass. The judgement of an image depends only
        on its own draws.
        """
        folded = fold(model)
        folding = {"folded": folded.gone, "unfolded": folded.left}
        network = self.ready(folded.network, min(self.most, self.n))
        spare = self.n - least(self.n, self.alpha)
        questions = iter(questions)
        while group := list(islice(questions, max(1, self.most // self.n0))):
            for (x, y, seed), cA in zip(group, self._select(network, group), strict=True):
                if self.skip_wrong and cA != y:
                    yield Judgement(prediction=cA, radius=0.0, skipped=True, details=folding)
                    continue
                nA, drawn = self._estimate(network, x, cA, seed, spare)
                # Draws that were not made count against the class, so that the bound holds however early it stops.
                bound = pa_low(nA, self.n, self.alpha)
                sure = bound >= 0.5
                yield Judgement(
                    prediction=cA if sure else -1,
                    radius=float(self.threat.sigma * ndtri(bound)) if sure else 0.0,
                    details={"n": self.n, "drawn": drawn, "nA": nA, "pA_low": bound} | folding,
                )

    @torch.no_grad()
    def _select(self, network: nn.Module, group: list[Question]) -> list[int]:
        """Most frequent class of each image in n0 draws, the first of a tie."""
        passes = zip(*(self.noisy(x, self.n0, (*seed, 0)) for x, _, seed in group), strict=True)
        votes = sum(_votes(network(torch.cat(noisy))).unflatten(0, (len(group), -1)).sum(1) for noisy in passes)
        return votes.argmax(1).tolist()

    @torch.no_grad()
    def _estimate(self, network: nn.Module, x: Tensor, cA: int, seed: tuple[int, int], spare: int) -> tuple[int, int]:
        """Number of draws that gave `cA`, and number of draws: n, or fewer once more than `spare` gave another class.

        The count stays on the device. It is read only when enough draws have passed since the last reading that, were
        all of them misses, the estimation would end.
        """
        hits, drawn, due = torch.zeros((), dtype=torch.long, device=x.device), 0, spare + 1
        for noisy in self.noisy(x, self.n, (*seed, 1)):
            hits += (classes(network(noisy)) == cA).sum()
            drawn += len(noisy)
            if due <= drawn < self.n:
                missed = drawn - int(hits)
                if missed > spare:
                    break
                due = drawn + spare - missed + 1
        return int(hits), drawn

    def noisy(self, x: Tensor, n: int, stream: tuple[int, ...]) -> Iterator[Tensor]:
        """Yield `n` noisy copies of `x`, as many at once as one forward pass takes."""
        generator = torch.Generator(x.device)
        for start in range(0, n, self.most):
            size = min(self.most, n - start)
            noisy = x.new_empty((-(-size // BLOCK) * BLOCK, *x.shape))
            for i, block in enumerate(noisy.split(BLOCK), start // BLOCK):
                block.normal_(generator=generator.manual_seed(_seed(*stream, i)))
            yield noisy[:size].mul_(self.threat.sigma).add_(x)


def _votes(logits: Tensor) -> Tensor:
    """True (B, classes) for the class of the largest logit; False for all classes where a logit is NaN."""
    # torch.bincount would also count, but waits for the device to learn the largest class.
    return classes(logits)[:, None] == torch.arange(logits.shape[1], device=logits.device)


def _seed(*words: int) -> int:
    """A seed of 63 bits, independent of those of all other words."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1
