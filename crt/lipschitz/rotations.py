"""The rotations in layers, which Duet compares: U V' of a layer's weights U S V', as a matrix a row per output channel.

A rotation is scaled to an operator norm of 1 where its layer stands. The teacher's is told by coordinates in its
directions U, which loses nothing, so that U V' itself is never multiplied out.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crt.lipschitz.chain import Layer, multiply
from crt.lipschitz.norms import upper_norm

NEWTON_SCHULZ = 14
"""Iterations towards a polar factor: a singular value of a hundredth of the matrix's length has come to within 0.1%."""


class Guide(NamedTuple):
    """The leading part of a teacher layer's rotation."""

    frame: Tensor
    """Its directions among the outputs, (outputs, rank)."""
    basis: Tensor
    """The weights from inputs to coordinates in that frame, (rank, ...), over `length`."""
    length: Tensor
    """The operator norm of the rotation before it was scaled."""
    norm: Tensor
    """The operator norm of the teacher's layer."""


@torch.no_grad()
def guide(layer: Layer, share: float) -> Guide:
    """The leading share of a layer's singular directions, at least one."""
    weight = layer.affine.weight
    u, _, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    rank = max(1, math.ceil(share * len(v)))
    basis = v[:rank].reshape(rank, *weight.shape[1:]).to(weight)
    length = _norm(layer, basis)
    return Guide(u[:, :rank].to(weight), basis / length, length, _norm(layer, weight))


def to_frame(guide: Guide, outputs: Tensor) -> Tensor:
    """Coordinates (B, rank, ...) in the guide's frame of the part of outputs (B, outputs, ...) that lies there."""
    return torch.einsum("or,bo...->br...", guide.frame, outputs)


def from_frame(guide: Guide, coordinates: Tensor) -> Tensor:
    """The outputs (B, outputs, ...) that have these coordinates (B, rank, ...)."""
    return torch.einsum("or,br...->bo...", guide.frame, coordinates)


def polar(weight: Tensor) -> Tensor:
    """The rotation U V' of weights (outputs, ...) by Newton and Schulz' iteration, which has a gradient."""
    x = weight.flatten(1)
    x = x / torch.linalg.vector_norm(x)
    for _ in range(NEWTON_SCHULZ):
        x = 1.5 * x - 0.5 * (x @ (x.T @ x) if len(x) > x.shape[1] else (x @ x.T) @ x)
    return x.view_as(weight)


def rank_one(layer: Layer, v: Tensor, x: Tensor) -> Tensor:
    """Outputs of a layer's leading singular pair on inputs (B, *shape), from its right vector `v` (1, *shape)."""
    u = multiply(layer.affine, v)
    along = (v * x).flatten(1).sum(1)
    return along.view(-1, *[1] * (u.dim() - 1)) * (u / torch.linalg.vector_norm(u))


def eq11(teachers: Tensor, students: Tensor, ratio: Tensor) -> Tensor:
    """How far (B,) rotated outputs are apart, weighed by a ratio of norms, in lengths of the teacher's: equation 11."""
    apart, length = _length(ratio * teachers - students / ratio), _length(teachers).detach()
    # Where the teacher's features are all 0 there is nothing to be like.
    known = length > 0
    return torch.where(known, apart / torch.where(known, length, 1), 0)


def cosine(teachers: Tensor, students: Tensor) -> Tensor:
    """1 less the cosine (B,) between rotated outputs."""
    return 1 - torch.cosine_similarity(teachers.flatten(1), students.flatten(1))


def _length(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values.flatten(1), dim=1)


def _norm(layer: Layer, weight: Tensor) -> Tensor:
    """The norm, from above, of a layer with other weights."""
    if weight.is_meta:  # where operations are counted, and there are no numbers
        return weight.new_ones(())
    module = layer.affine
    other: nn.Conv2d | nn.Linear
    with torch.device("meta"):
        if isinstance(module, nn.Linear):
            other = nn.Linear(module.in_features, len(weight))
        else:
            sizes = module.in_channels, len(weight), module.kernel_size, module.stride, module.padding
            # torch declares a convolution's pairs as tuples of any length.
            other = nn.Conv2d(*sizes)  # type: ignore[arg-type]
    other.weight = nn.Parameter(weight, requires_grad=False)
    return upper_norm(layer._replace(module=other)).to(weight)
