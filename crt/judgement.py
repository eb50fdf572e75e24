"""What an evaluation says of one image."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A class, or -1 for an abstention, and the radius it is certified in, in units of pixels in [0, 1]."""

    prediction: int
    radius: float
    details: dict[str, Any] = field(default_factory=dict)
