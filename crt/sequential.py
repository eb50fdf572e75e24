"""Lower confidence bounds of a probability that hold at any time at which one stops drawing.

Draws are looked at after the numbers of `looks`. With a probability of at least 1 - alpha, none of the bounds of all
looks together is above the true probability, so that whatever ends the drawing leaves the largest bound valid.
Hits and draws are arrays that broadcast with the probabilities `q`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc, betaincinv, betaln, xlog1py, xlogy

BLOCK = 100
"""Looks are at multiples of this many draws, and after the last."""
FUTILITY = 0.001
"""A probability is given up where a count of hits as low as the one seen has at most this chance under it."""
_STAGES, _GROWTH, _LAST = 16, 1.5, 0.5
"""Looks of alpha spending, each after this many times the draws of the look before, and alpha's share for the last."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sequence(ABC):
    """A sequence of lower bounds in at most `n` draws, valid together with a probability of 1 - `alpha` or more."""

    alpha: float
    n: int

    @cached_property
    @abstractmethod
    def looks(self) -> tuple[int, ...]:
        """Numbers of draws after which the bound is computed, the last of them `n`."""

    @property
    @abstractmethod
    def reach(self) -> float:
        """Largest probability that `n` hits in `n` draws prove."""

    @abstractmethod
    def proves(self, hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> Bools:
        """True where the hits prove that the true probability is at least `q`, above 0 and below 1."""

    @abstractmethod
    def bound(self, hits: int, drawn: int) -> float:
        """The largest probability that the hits prove; 0 if they prove none."""

    def hopeless(self, hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> Bools:
        """True where drawing on is futile: too few hits for `q`, or too few draws left. It costs no confidence."""
        hits, drawn = np.asarray(hits), np.asarray(drawn)
        unlikely = np.where(hits < drawn, betaincc(hits + 1, np.maximum(drawn - hits, 1), q), 1.0) <= FUTILITY
        return unlikely | ~self.proves(hits + self.n - drawn, self.n, q)


class Spending(Sequence):
    """Bounds of Clopper and Pearson at levels that sum to alpha: valid together by the union bound.

    Half of alpha goes to the last look, so that little is lost where all draws are needed.
    """

    @cached_property
    def looks(self) -> tuple[int, ...]:
        stages = (self.n / _GROWTH**stage for stage in range(_STAGES - 1, 0, -1))
        blocks = {math.ceil(draws / BLOCK) * BLOCK for draws in stages}
        return (*sorted(draws for draws in blocks if draws < self.n), self.n)

    @property
    def reach(self) -> float:
        return self._levels[1] ** (1 / self.n)

    def proves(self, hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> Bools:
        hits, drawn = np.asarray(hits), np.asarray(drawn)
        return (hits > 0) & (betainc(np.maximum(hits, 1), drawn - hits + 1, q) <= self._level(drawn))

    def bound(self, hits: int, drawn: int) -> float:
        return float(betaincinv(hits, drawn - hits + 1, self._level(drawn))) if hits else 0.0

    def _level(self, drawn: ArrayLike) -> NDArray[np.float64]:
        """Level of the bound after a number of draws."""
        early, last = self._levels
        return np.where(np.equal(drawn, self.n), last, early)

    @property
    def _levels(self) -> tuple[float, float]:
        """Level of each look but the last, and that of the last; computed without a library."""
        early = len(self.looks) - 1
        last = _LAST if early else 1.0
        return self.alpha * ((1 - last) / max(early, 1)), self.alpha * last


class Mixture(Sequence):
    """Confidence sequence of a uniform mixture of likelihood ratios (Robbins, 1970).

    The wealth of a bettor against a probability of at most q, spread evenly over the alternatives above q, grows to
    1 / alpha with a probability of at most alpha (Ville's inequality), however often one looks. It falls as q rises, so
    that the probabilities that are refuted end at the bound. Waudby-Smith and Ramdas, 2024
    (https://arxiv.org/abs/2010.09686); for smoothing Voracek, 2024 (https://arxiv.org/abs/2406.17830).
    """

    @cached_property
    def looks(self) -> tuple[int, ...]:
        looks, draws = [], BLOCK
        while draws < self.n:
            looks.append(draws)
            draws += max(draws // 10 // BLOCK, 1) * BLOCK
        return (*looks, self.n)

    @property
    def reach(self) -> float:
        return _root(lambda q: self._log_wealth_of_hits(q) >= -math.log(self.alpha))

    def proves(self, hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> Bools:
        return log_wealth(hits, drawn, q) >= -math.log(self.alpha)

    def bound(self, hits: int, drawn: int) -> float:
        return _root(lambda q: bool(self.proves(hits, drawn, q))) if hits else 0.0

    def _log_wealth_of_hits(self, q: float) -> float:
        """Logarithm of the wealth after `n` hits in `n` draws, without a library."""
        rest = (1 - q ** (self.n + 1)) / ((self.n + 1) * (1 - q))
        return math.log(rest) - self.n * math.log(q)


def log_wealth(hits: ArrayLike, drawn: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the mixture's wealth against a probability of at most `q`, above 0 and below 1."""
    hits, q = np.asarray(hits), np.asarray(q, float)
    misses = np.asarray(drawn) - hits
    with np.errstate(divide="ignore"):
        above = np.log(betaincc(hits + 1, misses + 1, q))
    return betaln(hits + 1, misses + 1) + above - np.log1p(-q) - xlogy(hits, q) - xlog1py(misses, -q)


def _root(proved: Callable[[float], bool]) -> float:
    """The largest probability that is proved, rounded down; all below it are."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if proved(middle) else (low, middle)
    return low


class Decision:
    """Which of the probabilities `q` are proved, and which are hopeless, for one image or for an array of images."""

    def __init__(self, sequence: Sequence, q: NDArray[np.float64], images: tuple[int, ...] = ()):
        self.sequence, self.q = sequence, q
        self.proved = np.zeros((*images, len(q)), bool)
        self.hopeless = np.broadcast_to(sequence.hopeless(0, 0, q), self.proved.shape).copy()

    @property
    def done(self) -> Bools:
        """True for the images of which every probability is decided."""
        return np.asarray((self.proved | self.hopeless).all(-1))

    def look(self, hits: ArrayLike, drawn: int) -> None:
        """Decide by the hits of each image in `drawn` draws; images that are done keep their decisions."""
        hits, open_ = np.asarray(hits)[..., None], ~self.done[..., None]
        self.proved |= open_ & self.sequence.proves(hits, drawn, self.q)
        self.hopeless |= open_ & ~self.proved & self.sequence.hopeless(hits, drawn, self.q)


Rule = Literal["spending", "mixture"]
RULES: dict[Rule, type[Sequence]] = {"spending": Spending, "mixture": Mixture}
