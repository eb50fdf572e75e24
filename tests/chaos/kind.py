"""A kind of disturbance: what it tries, and what it found."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """What one disturbance did, and whether the project kept its promises."""

    tried: str
    """The disturbance in words, enough to repeat it beside the seed: "bit 77 of byte 4,096 of checkpoint.pt"."""
    broken: str = ""
    """The promise that did not hold, with what was seen; empty if all held."""


class Kind(NamedTuple):
    """One kind of disturbance, and how it is tried."""

    name: str
    """One of manifests, checkpoints, records, betons, cluster."""
    promise: str
    """What must hold, in one line."""
    count: int
    """Number of disturbances in a full campaign."""
    prepare: Callable[[Path], None]
    """Makes in a folder what all attempts share, once."""
    attempt: Callable[[Path, int], list[Outcome]]
    """Tries one seed in the folder that `prepare` filled; most give one outcome, a campaign of a cluster many."""
    shrink: Callable[[Path, int], str] | None
    """A smaller reproduction of a seed that broke a promise, in words or as a file's path."""
