"""Measures besides a network's certificates: products of norms, and the factor by which boxes tighten its bounds."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import Layer, exact, scale
from crt.lipschitz.translation import distances, over_ball, over_both
from crt.models.classifier import Classifier


class Products(NamedTuple):
    """Lipschitz constants of a network."""

    logits: float
    """Lipschitz constant of the logits, from the norms of all layers."""
    margins: float
    """Largest Lipschitz constant of a difference of two logits, from the rows of the head."""


def features_constant(model: Classifier, layers: tuple[Layer, ...], norms: dict[str, Tensor]) -> Tensor:
    """Lipschitz constant of the features, from the norms of all layers before the head."""
    return scale(model) * math.prod(norms[layer.name] for layer in layers[:-1] if layer.name in norms)


@torch.no_grad()
def products(model: Classifier, layers: tuple[Layer, ...], norms: dict[str, Tensor]) -> Products:
    """Lipschitz constants from the norms of all layers with weights, including the head's."""
    before = features_constant(model, layers, norms)
    return Products(float(before * norms["head"]), float(before * distances(model.head.weight).max()))


@torch.no_grad()
def tightness(
    model: Classifier, layers: tuple[Layer, ...], x: Tensor, y: Tensor, eps: float, norms: dict[str, Tensor]
) -> float:
    """Sum of exact translations over ball and box of images `x` (B, C, H, W), over that over the ball; at most 1."""
    with exact(x.device):
        region = before_head(model, layers, x, eps, norms)
        both = over_both(model.head.weight, y, region, None).sum()
        return float(both / over_ball(model.head.weight, y, region.rho).sum())
