"""Certificates by intervals of all neurons: IBP (Gowal et al., 2018, https://arxiv.org/abs/1810.12715)."""

from typing import ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.evals.margins import Margins
from crt.lipschitz.chain import Layer
from crt.lipschitz.crown import margins
from crt.lipschitz.intervals import Ball, check_intervals
from crt.models.classifier import Classifier
from crt.quantity import Positive

__all__ = ["IBP"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class IBP(Margins):
    """The network's class, certified within eps where intervals alone prove it, computed in float64.

    Details are the cross-entropy (`loss`) and the cross-entropy of the worst logits within eps (`worst_loss`).
    """

    eps: Positive | None = None
    """Radius of the ball; by default the threat's."""

    batch_size: ClassVar[int] = 256
    forwards = 50
    """Cost in float32 passes, ten for each in float64 on two cores.

    They are one for the image and two for its intervals, and two more for those of its label where the class is wrong.
    """

    def fits(self, model: Classifier) -> None:
        """Raise ValueError with the name of a layer that has no bound."""
        check_intervals(model)

    def margins(self, model: Classifier, layers: tuple[Layer, ...], images: Ball, y: Tensor) -> Tensor:
        """Lower bounds (B, classes - 1) of the margins by intervals."""
        return margins(model, layers, images, y, beta=0.0)
