"""An evaluation's judgement of one image, and the question that it answers."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Question = tuple[Tensor, int, tuple[int, int]]
"""An image (C, H, W) in [0, 1], its label, and the seed (run's, image's index) of what is drawn for it."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A class, or -1 for an abstention, and the radius it is certified in, in units of pixels in [0, 1]."""

    prediction: int
    radius: float
    skipped: bool = False
    """Not certified, because the prediction was seen to be wrong."""
    details: dict[str, Any] = field(default_factory=dict)
