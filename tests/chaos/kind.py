"""A kind of disturbance: what it tries, and what it found."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """One disturbance, and the promise that it broke, if any."""

    tried: str
    """The disturbance in words, enough to repeat it beside the seed: "bit 77 of byte 4,096 of checkpoint.pt"."""
    broken: str = ""
    """The promise that did not hold, with what was seen; empty if all held."""


class Kind(NamedTuple):
    """A kind of disturbance, with its promise and the functions that try it."""

    name: str
    promise: str
    """One line: what must hold."""
    count: int
    """Number of disturbances in a full campaign."""
    prepare: Callable[[Path], None]
    """Fill a folder, once, with what every attempt shares: a trained cell, a .beton file."""
    attempt: Callable[[Path, int], list[Outcome]]
    """Try the disturbances of one seed in the folder that `prepare` filled; most seeds give one outcome."""
    shrink: Callable[[Path, int], str] | None = None
    """A smaller reproduction of a seed that broke, in words or as a file's path."""
    missing: Callable[[], str] = str
    """What this machine lacks for the kind, in words; empty for nothing."""
