"""Rotations in layers, compared by Duet: U V' of a layer's weights U S V', as a matrix with a row per output channel.

A rotation is scaled to an operator norm of 1 at the layer's input size. The teacher's rotation is represented by
coordinates in its directions U without loss, so that U V' itself is never computed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crt.lipschitz.chain import Layer, multiply
from crt.lipschitz.norms import upper_norm

NEWTON_SCHULZ = 14
"""Iterations for a polar factor; a singular value of 1 % of the matrix's norm is then within 0.1 % of 1."""


class Guide(NamedTuple):
    """Leading part of a teacher layer's rotation."""

    frame: Tensor
    """Directions of the rotation among the outputs, (outputs, rank)."""
    basis: Tensor
    """Weights from inputs to coordinates in that frame, (rank, ...), divided by `length`."""
    length: Tensor
    """Operator norm of the rotation before scaling."""
    norm: Tensor
    """Operator norm of the teacher's layer."""


@torch.no_grad()
def guide(layer: Layer, share: float, directions: int | None = None) -> Guide:
    """Guide with a number of a layer's leading singular directions, all if it has fewer, or a share, at least one."""
    weight = layer.affine.weight
    u, _, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    rank = min(directions, len(v)) if directions else max(1, math.ceil(share * len(v)))
    basis = v[:rank].reshape(rank, *weight.shape[1:]).to(weight)
    length = norm_with(layer, basis)
    return Guide(u[:, :rank].to(weight), basis / length, length, norm_with(layer, weight))


def to_frame(guide: Guide, outputs: Tensor) -> Tensor:
    """Coordinates (B, rank, ...) in the guide's frame of the outputs (B, outputs, ...), projected into it."""
    return torch.einsum("or,bo...->br...", guide.frame, outputs)


def from_frame(guide: Guide, coordinates: Tensor) -> Tensor:
    """Outputs (B, outputs, ...) with these coordinates (B, rank, ...)."""
    return torch.einsum("or,br...->bo...", guide.frame, coordinates)


def polar(weight: Tensor) -> Tensor:
    """Rotation U V' of weights (outputs, ...) by Newton and Schulz' iteration, which is differentiable."""
    x = weight.flatten(1)
    x = x / torch.linalg.vector_norm(x)
    for _ in range(NEWTON_SCHULZ):
        x = 1.5 * x - 0.5 * (x @ (x.T @ x) if len(x) > x.shape[1] else (x @ x.T) @ x)
    return x.view_as(weight)


def rank_one(layer: Layer, v: Tensor, x: Tensor) -> Tensor:
    """Outputs of a layer's leading singular pair for inputs (B, *shape), from its right vector `v` (1, *shape)."""
    u = multiply(layer.affine, v)
    along = (v * x).flatten(1).sum(1)
    return along.view(-1, *[1] * (u.dim() - 1)) * (u / torch.linalg.vector_norm(u))


def cosine(teachers: Tensor, students: Tensor) -> Tensor:
    """1 minus the cosine (B,) of rotated outputs."""
    return 1 - torch.cosine_similarity(teachers.flatten(1), students.flatten(1))


def norm_with(layer: Layer, weight: Tensor) -> Tensor:
    """Upper bound of the norm of a layer with other weights."""
    if weight.is_meta:  # while operations are counted, there are no values
        return weight.new_ones(())
    module = layer.affine
    reweighted: nn.Conv2d | nn.Linear
    with torch.device("meta"):
        if isinstance(module, nn.Linear):
            reweighted = nn.Linear(module.in_features, len(weight))
        else:
            sizes = module.in_channels, len(weight), module.kernel_size, module.stride, module.padding
            # torch declares a convolution's pairs as tuples of any length.
            reweighted = nn.Conv2d(*sizes)  # type: ignore[arg-type]
    reweighted.weight = nn.Parameter(weight, requires_grad=False)
    return upper_norm(layer._replace(module=reweighted)).to(weight)
