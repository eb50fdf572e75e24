"""Networks with the same layers: their check, and a network that begins as another over its norms."""

from itertools import zip_longest

import torch
from torch import nn

from crt.lipschitz.chain import AFFINE, chain, check, weighted
from crt.lipschitz.rotations import norm_with
from crt.models.classifier import Classifier


def alike(model: Classifier, teacher: Classifier) -> None:
    """Raise ValueError where networks without BatchNorm have a layer without a bound, or layers of other shapes."""
    check(model)
    check(teacher)
    for mine, taught in zip_longest(_shapes(model), _shapes(teacher), fillvalue="no layer"):
        if mine != taught:
            raise ValueError(f"the teacher has {taught} where the network has {mine} (allowed: the same layers)")


@torch.no_grad()
def begin_over_norms(model: Classifier, teacher: Classifier, shape: tuple[int, ...]) -> None:
    """Give the model each layer's weights of the teacher over their norm, for images of a shape (C, H, W).

    Biases are divided by the norms of all layers so far. With ReLU, the model then is the teacher over the product of
    its norms, which are bounds from above.
    """
    product: torch.Tensor | float = 1.0
    for mine, theirs in zip(weighted(chain(model, shape)), weighted(chain(teacher, shape)), strict=True):
        norm = norm_with(theirs, theirs.affine.weight)
        product = product * norm
        mine.affine.weight.copy_(theirs.affine.weight / norm)
        if mine.affine.bias is not None and theirs.affine.bias is not None:
            mine.affine.bias.copy_(theirs.affine.bias / product)


def _shapes(model: Classifier) -> list[str]:
    layers = [module for module in model.modules() if isinstance(module, AFFINE)]
    return [f"{'Conv2d' if isinstance(layer, nn.Conv2d) else 'Linear'}({layer.extra_repr()})" for layer in layers]
