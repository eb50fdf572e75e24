"""An evaluation's judgement of one image, and its input."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Question = tuple[Tensor, int, tuple[int, int]]
"""An image (C, H, W) in [0, 1], its label, and the seed (run's seed, image's index) of its random draws."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A class, or -1 for an abstention, and the radius in which it is certified, in units of pixels in [0, 1]."""

    prediction: int
    radius: float
    skipped: bool = False
    """True if certification was skipped because the prediction is wrong."""
    details: dict[str, Any] = field(default_factory=dict)
