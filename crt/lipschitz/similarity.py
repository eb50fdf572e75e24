"""How like a network's rotations are to a teacher's: six readings of what the Duet paper calls similarity (table 1).

A layer's rotation is U V' of its weights U S V', as a matrix a row per output channel. Not in all readings is a network
that knows nothing of the teacher at 0: a report needs the values of one beside it.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from crt.lipschitz.chain import AFFINE, Layer, chain, exact, multiply
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain


@torch.no_grad()
def similarity(model: Classifier, teacher: Classifier, x: Tensor, share: float = 0.5) -> dict[str, float]:
    """Means over layers, and images `x` (B, C, H, W) where they matter, of networks in eval mode with equal layers.

    M1: the cosine of the rotations. M2: of what they make of each network's own layer inputs; M3: of the model's.
    M4: the linear kernel alignment of the layers' outputs. M5: the overlap, 0 to 1, of the leading `share` of the
    directions among inputs. M6: M1 moved to between 0 and 1.
    """
    rows = []
    with exact(x.device):
        for (layer, a, out), (other, b, told) in zip(_walk(model, x), _walk(teacher, x), strict=True):
            (mine, left), (taught, right) = _rotation(layer, share), _rotation(other, share)
            turned = multiply(layer.affine, a, mine)
            m1 = _cosines(mine[None], taught[None])
            m2 = _cosines(turned, multiply(other.affine, b, taught))
            m3 = _cosines(turned, multiply(other.affine, a, taught))
            rows.append([m1, m2, m3, _alignment(out, told), (left @ right.T).square().sum() / len(left)])
    means = [sum(float(value) for value in column) / len(rows) for column in zip(*rows, strict=True)]
    return {f"M{k}": mean for k, mean in enumerate([*means, (1 + means[0]) / 2], 1)}


def _walk(model: Classifier, x: Tensor) -> Iterator[tuple[Layer, Tensor, Tensor]]:
    """Each layer with weights, its input and its output; BatchNorm is folded."""
    model = plain(model)
    flow = model.normalize(x)
    for layer in chain(model, x.shape[1:]):
        met, flow = flow, layer.module(flow)
        if isinstance(layer.module, AFFINE):
            yield layer, met, flow


def _rotation(layer: Layer, share: float) -> tuple[Tensor, Tensor]:
    """The rotation in the weights' shape, and the leading share of its directions among inputs, (rank, inputs)."""
    weight = layer.affine.weight
    u, _, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    return (u @ v).view_as(weight).to(weight), v[: math.ceil(share * len(v))]


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1)).mean()


def _alignment(a: Tensor, b: Tensor) -> Tensor:
    """Alignment of the centred kernels of outputs (B, ...) (Kornblith et al., 2019,
    https://arxiv.org/abs/1905.00414)."""
    a, b = (part.flatten(1) - part.flatten(1).mean(0) for part in (a, b))
    return torch.cosine_similarity((a @ a.T).flatten(), (b @ b.T).flatten(), 0)
