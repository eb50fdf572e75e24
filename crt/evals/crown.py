"""Certificates of ReLU networks by linear bounds: CROWN-IBP (Zhang et al., 2020, https://arxiv.org/abs/1906.06316)."""

from typing import ClassVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.evals.margins import Margins
from crt.lipschitz.chain import Layer
from crt.lipschitz.crown import check_relu, margins
from crt.lipschitz.intervals import Ball, boxes
from crt.models.classifier import Classifier
from crt.quantity import Positive

__all__ = ["CROWN"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class CROWN(Margins):
    """The network's class, certified within eps where linear bounds or intervals prove it, computed in float64.

    The linear bounds go backwards through all layers; their neurons lie in intervals of `IBP`. Details are the
    cross-entropy (`loss`) and the cross-entropy of the worst logits within eps (`worst_loss`).
    """

    eps: Positive | None = None
    """Radius of the ball; by default the threat's."""

    batch_size: ClassVar[int] = 32
    """Each image needs as many copies of its layers as there are other classes."""
    forwards = 270
    """Cost in float32 passes, ten for each in float64 on two cores.

    They are one for the image, four for its intervals, one backward for each other of ten classes, and those of its
    label where the class is wrong.
    """

    def fits(self, model: Classifier) -> None:
        """Raise ValueError with the name of a layer that has no bound."""
        check_relu(model)

    def margins(self, model: Classifier, layers: tuple[Layer, ...], images: Ball, y: Tensor) -> Tensor:
        """Lower bounds (B, classes - 1) of the margins, each the better one from linear bounds or intervals."""
        inputs = boxes(model, layers, images)
        return torch.maximum(*(margins(model, layers, images, y, beta, inputs) for beta in (1.0, 0.0)))
