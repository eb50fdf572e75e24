"""Rotations of layers by singular vectors, of which Duet's restatement compares a teacher's and a student's."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.plain_eager.chains import linear, weights, zeros

__all__: list[str] = []


class Rotation(NamedTuple):
    """The teacher's rotation in a layer, cut to its leading directions (equation 9)."""

    weight: Tensor
    """U V' in the shape of the layer's weights."""
    frame: Tensor
    """U, (outputs, rank)."""
    length: Tensor
    """Bound of the norm of U V' at the layer's input size."""
    norm: Tensor
    """Bound of the norm of the layer itself."""


@torch.no_grad()
def rotation(layer: nn.Module, shape: torch.Size, share: float, directions: int | None) -> Rotation:
    """Leading share or number of directions of the rotation of a layer with inputs (B, *shape), at least one."""
    weight = weights(layer)
    u, s, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    rank = min(directions, len(s)) if directions else max(1, math.ceil(share * len(s)))
    turn = (u[:, :rank] @ v[:rank]).view_as(weight).to(weight)
    return Rotation(turn, u[:, :rank].to(weight), largest(layer, turn, shape), largest(layer, weight, shape))


def largest(layer: nn.Module, weight: Tensor, shape: torch.Size) -> Tensor:
    """Upper bound of the norm of a layer with these weights: the largest norm over all frequencies of the padded input.

    Sedghi et al., 2019 (https://arxiv.org/abs/1805.10408); a stride makes each of its phases a channel.
    """
    if not isinstance(layer, nn.Conv2d):
        return torch.linalg.svdvals(weight.double()).max().to(weight)
    (s, t), (p, q) = layer.stride, zeros(layer)
    grid = math.ceil((shape[1] + 2 * p) / s), math.ceil((shape[2] + 2 * q) / t)
    phases = []
    for a in range(s):
        for b in range(t):
            phase = weight[:, :, a::s, b::t].double()
            padded = phase.new_zeros((*phase.shape[:2], *grid))
            padded[:, :, : phase.shape[2], : phase.shape[3]] = phase
            phases.append(torch.fft.fft2(padded))
    operators = torch.cat(phases, 1).permute(2, 3, 0, 1)
    return torch.linalg.svdvals(operators).max().to(weight)


def polar(weight: Tensor) -> Tensor:
    """U V' of the weights by Newton and Schulz' iteration."""
    x = weight.flatten(1)
    x = x / x.norm()
    for _ in range(14):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x.view_as(weight)


def rank_one(layer: nn.Module, v: Tensor, x: Tensor) -> Tensor:
    """Outputs of the leading singular pair for inputs (B, *shape), from its right vector (1, *shape)."""
    u = linear(layer, v, weights(layer))
    along = (v * x).flatten(1).sum(1)
    return along.view(-1, *[1] * (u.dim() - 1)) * u / u.norm()


def block(layer: nn.Module, basis: Tensor, x: Tensor) -> Tensor:
    """Outputs of the leading singular pairs for inputs (B, *shape), from a basis (k, *shape) of their right vectors."""
    turned = polar(linear(layer, basis, weights(layer)))
    return torch.einsum("k...,bk->b...", turned, x.flatten(1) @ basis.flatten(1).T)
