"""The trained network: normalization, body and linear head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from crt.models.fold_batchnorm import Twin
    from crt.models.low_weights import LowWeights


def boxed(x: Tensor) -> Tensor:
    """Pixels clamped to [0, 1]; the gradient passes where they are exactly 0 or 1.

    From torch 2.15 on, `Tensor.clamp` stops it there (https://github.com/pytorch/pytorch/pull/191142), so that no black
    or white pixel could be attacked.
    """
    return x.masked_fill(x < 0, 0.0).masked_fill(x > 1, 1.0)


class Normalize(nn.Module):
    """(x - mean) / std per channel, the first layer, so that noise and attacks are in pixel space.

    With `clamp`, pixels outside [0, 1] count as 0 or 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], clamp: bool = False):
        super().__init__()
        self.clamp = clamp
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = boxed(x) if self.clamp else x
        return (x - self.mean) / self.std


@runtime_checkable
class HasHeadDropout(Protocol):
    """A network's body with dropout between its features and its head."""

    head_dropout: float
    """Probability that a feature is dropped in training."""


class Classifier(nn.Module):
    """Network from pixels in [0, 1] of shape (B, C, H, W) to logits of shape (B, classes)."""

    twin: "Twin[Classifier] | None" = None
    """Copy with BatchNorm folded and layers joined that is attacked instead, where a recipe has `fold: true`."""
    low: "LowWeights | None" = None
    """Weights for passes without weight gradients, where a recipe has a lower precision."""
    train_passes: int = 0
    """Number of passes through the body in train mode."""

    def __init__(
        self,
        body: nn.Module,
        width: int,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        clamp: bool = False,
    ):
        super().__init__()
        self.normalize = Normalize(mean, std, clamp)
        self.body = body
        self.dropout = nn.Dropout(body.head_dropout if isinstance(body, HasHeadDropout) else 0.0)
        """Dropout between features and head, in networks that have one there."""
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, width) of images `x` (B, C, H, W): the input of the head."""
        self.train_passes += self.training
        return self.body(self.normalize(x))

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of features (B, width)."""
        return self.head(self.dropout(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))
