"""Certification by randomized smoothing (Cohen et al., 2019, https://arxiv.org/abs/1902.02918, figure 1).

With a grid of radii, an image takes only as many draws as its radii need.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.special import betaincinv, ndtr, ndtri
from torch import Tensor, nn

from crt.attacks.run import classes
from crt.evals.execution import Switches
from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import fold
from crt.quantity import Count, NonNegative, Real
from crt.sequential import BLOCK, RULES, Decision, Rule

__all__ = ["Smoothing"]

Certificate = tuple[float | None, dict[str, Any]]
"""The certified radius of an image, None where the class is not certified at all, and details of the estimation."""
_MOST_SIGMAS = 6
"""A radius of as many standard deviations needs more than 10^9 draws."""


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
    With `radii`, an image's radius is the largest of them that is certified; its draws end once each of them is
    certified or hopeless. The bound holds at any time at which they end, so the guarantee is the same.
    """

    n0: Count = 100
    """Number of draws that select the class."""
    n: Count = 100_000
    """Number of fresh draws that estimate its probability; with `radii`, the largest number."""
    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.001
    skip_wrong: bool = True
    """Skip the estimation where the selected class is not the label; ACR and certified accuracy do not change."""
    batch: Count | None = None
    """Draws in one forward pass, a multiple of 100; by default 1000 on a GPU, else 100."""
    radii: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=100)] | None = None
    """Grid of l2 radii to decide, to which 0 is added; by default the radius itself is measured, with all draws."""
    until: Literal["decided"] | None = None
    """`decided` with `radii`: draw until every radius is certified or hopeless."""
    rule: Rule | None = None
    """How a grid's bound stays valid at every look: alpha spending (the default) or the mixture sequence."""

    execution: ClassVar[frozenset[str]] = frozenset({"batch"})
    unsaid: ClassVar[frozenset[str]] = frozenset({"compile", "radii", "until", "rule"})
    quick: ClassVar[dict[str, int]] = {"n0": 10}
    steady: ClassVar[bool] = True

    kind = "smoothing"
    draws = "n"

    @model_validator(mode="after")
    def _can_certify(self) -> "Smoothing":
        if self.threat.sigma <= 0:
            raise ValueError("Smoothing needs sigma > 0")
        if (self.radii is None) != (self.until is None) or (self.rule and self.radii is None):
            raise ValueError("radii, until and rule belong together (allowed: radii with until: decided)")
        if self.radii is not None:
            if max(self.radii) > _MOST_SIGMAS * self.threat.sigma:
                most = f"{_MOST_SIGMAS} sigma = {_MOST_SIGMAS * self.threat.sigma:g}"
                raise ValueError(f"radii: {max(self.radii):g} cannot be certified (allowed: up to {most})")
            self.radii, self.rule = tuple(sorted({0.0, *self.radii})), self.rule or "spending"
        if self.reach < 0.5:
            raise ValueError(f"Smoothing would always abstain: n={self.n} is too small for alpha={self.alpha:g}")
        return self

    @property
    def forwards(self) -> int:
        return self.n0 + self.n

    @property
    def variant(self) -> str:
        return "grid" if self.radii else ""

    @property
    def decided_radii(self) -> tuple[float, ...] | None:
        return self.radii

    @property
    def out_of_reach(self) -> tuple[float, ...]:
        # The standard library's, because a manifest is checked without scipy.
        phi = NormalDist().cdf
        return tuple(r for r in self.radii or () if phi(r / self.threat.sigma) > self.reach)

    @property
    def reach(self) -> float:
        """The largest probability of a class that the draws can prove."""
        return RULES[self.rule](self.alpha, self.n).reach if self.rule else self.alpha ** (1 / self.n)

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
                if self.radii:
                    radius, details = self._decide(network, x, cA, seed)
                else:
                    radius, details = self._measure(network, x, cA, seed, spare)
                sure = radius is not None
                yield Judgement(prediction=cA if sure else -1, radius=radius or 0.0, details=details | folding)

    @torch.no_grad()
    def _select(self, network: nn.Module, group: list[Question]) -> list[int]:
        """Most frequent class of each image in n0 draws, the first of a tie."""
        passes = zip(*(self.noisy(x, self.n0, (*seed, 0)) for x, _, seed in group), strict=True)
        votes = sum(_votes(network(torch.cat(noisy))).unflatten(0, (len(group), -1)).sum(1) for noisy in passes)
        return votes.argmax(1).tolist()

    def _measure(self, network: nn.Module, x: Tensor, cA: int, seed: tuple[int, int], spare: int) -> Certificate:
        """The radius that all draws together certify."""
        nA, drawn = self._estimate(network, x, cA, seed, spare)
        # Draws that were not made count against the class, so that the bound holds however early it stops.
        bound = pa_low(nA, self.n, self.alpha)
        radius = float(self.threat.sigma * ndtri(bound)) if bound >= 0.5 else None
        return radius, {"n": self.n, "drawn": drawn, "nA": nA, "pA_low": bound}

    @torch.no_grad()
    def _decide(self, network: nn.Module, x: Tensor, cA: int, seed: tuple[int, int]) -> Certificate:
        """The largest radius of the grid that is certified by the time at which all of them are decided.

        Draws are those of a certificate without a grid, in the same order. The looks are at fixed numbers of draws, so
        that the certificate does not depend on the batch size.
        """
        assert self.radii and self.rule
        decision = Decision(RULES[self.rule](self.alpha, self.n), ndtr(np.array(self.radii) / self.threat.sigma))
        hits, drawn, bound = 0, 0, 0.0
        for look in decision.sequence.looks:
            if decision.done:
                break
            passes = self.noisy(x, look, (*seed, 1), first=drawn)
            hits += int(sum((classes(network(noisy)) == cA).sum() for noisy in passes))
            drawn, bound = look, max(bound, decision.sequence.bound(hits, look))
            decision.look(hits, look)
        radius = max((r for r, proved in zip(self.radii, decision.proved, strict=True) if proved), default=None)
        return radius, {"n": self.n, "drawn": drawn, "nA": hits, "pA_low": bound}

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

    def noisy(self, x: Tensor, n: int, stream: tuple[int, ...], first: int = 0) -> Iterator[Tensor]:
        """Yield noisy copies of `x` from number `first`, a multiple of BLOCK, to `n`, a forward pass at a time."""
        generator = torch.Generator(x.device)
        for start in range(first, n, self.most):
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
