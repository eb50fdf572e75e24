"""Similarity of a network's rotations to a teacher's, in six readings of the Duet paper's term (table 1).

A layer's rotation is U V' of its weights U S V', as a matrix with a row per output channel. Not all readings are 0 for
a network that is unrelated to the teacher, so a report also needs the values of such a network.
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
    """Means over layers, and over images `x` (B, C, H, W) where they matter, for equal networks in eval mode.

    M1: cosine of the rotations. M2: cosine of the rotations' outputs for each network's own layer inputs; M3: for the
    model's inputs. M4: linear kernel alignment of the layers' outputs. M5: overlap, from 0 to 1, of the leading `share`
    of the directions among inputs. M6: M1 mapped to between 0 and 1.
    """
    rows = []
    with exact(x.device):
        for (layer, a, out), (teacher_layer, b, teacher_out) in zip(_walk(model, x), _walk(teacher, x), strict=True):
            (rotation, left), (teacher_rotation, right) = _rotation(layer, share), _rotation(teacher_layer, share)
            rotated = multiply(layer.affine, a, rotation)
            m1 = _cosines(rotation[None], teacher_rotation[None])
            m2 = _cosines(rotated, multiply(teacher_layer.affine, b, teacher_rotation))
            m3 = _cosines(rotated, multiply(teacher_layer.affine, a, teacher_rotation))
            rows.append([m1, m2, m3, _alignment(out, teacher_out), (left @ right.T).square().sum() / len(left)])
    means = [sum(float(value) for value in column) / len(rows) for column in zip(*rows, strict=True)]
    return {f"M{k}": mean for k, mean in enumerate([*means, (1 + means[0]) / 2], 1)}


def _walk(model: Classifier, x: Tensor) -> Iterator[tuple[Layer, Tensor, Tensor]]:
    """Yield each layer with weights, its input and its output; BatchNorm is folded."""
    model = plain(model)
    flow = model.normalize(x)
    for layer in chain(model, x.shape[1:]):
        inputs, flow = flow, layer.module(flow)
        if isinstance(layer.module, AFFINE):
            yield layer, inputs, flow


def _rotation(layer: Layer, share: float) -> tuple[Tensor, Tensor]:
    """The rotation in the weights' shape, and the leading share of its directions among inputs, (rank, inputs)."""
    weight = layer.affine.weight
    u, _, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    return (u @ v).view_as(weight).to(weight), v[: math.ceil(share * len(v))]


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1)).mean()


def _alignment(a: Tensor, b: Tensor) -> Tensor:
    """Alignment of the centred kernels of outputs (B, ...).

    Kornblith et al., 2019 (https://arxiv.org/abs/1905.00414).
    """
    a, b = (part.flatten(1) - part.flatten(1).mean(0) for part in (a, b))
    return torch.cosine_similarity((a @ a.T).flatten(), (b @ b.T).flatten(), 0)
