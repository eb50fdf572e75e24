"""Leading singular pairs of layers by block power iteration, whose rotation Duet may compare."""

import math

import torch
from torch import Tensor

from crt.lipschitz.chain import Layer, multiply, transposed, weighted
from crt.lipschitz.rotations import polar


@torch.no_grad()
def follow_blocks(layers: tuple[Layer, ...], blocks: dict[str, Tensor], count: int, iterations: int) -> None:
    """Take block power iterations from the right vectors (k, *shape) of layers with weights, in place.

    There are `count` of each layer, or as many as it has inputs or output channels. They are created on first use,
    equal on every rank; afterwards they are orthonormal, and converge to the space of the leading singular vectors.
    """
    if not blocks:
        blocks.update(_first_blocks(layers, count))
    for layer in weighted(layers):
        v, module = blocks[layer.name], layer.affine
        for _ in range(iterations):
            z = transposed(module, multiply(module, v), layer.shape, module.weight)
            v = torch.linalg.qr(z.flatten(1).T).Q.T.reshape(z.shape)
        blocks[layer.name].copy_(v)


def by_pairs(layer: Layer, v: Tensor, x: Tensor) -> Tensor:
    """Outputs U V' of a layer's leading singular pairs for inputs (B, *shape).

    Any orthonormal basis `v` (k, *shape) of the right vectors' space will do: U V' is the polar factor of the layer on
    that space.
    """
    u = multiply(layer.affine, v)
    coordinates = x.flatten(1) @ v.flatten(1).T
    return (coordinates @ polar(u).flatten(1)).unflatten(1, u.shape[1:])


def _first_blocks(layers: tuple[Layer, ...], count: int) -> dict[str, Tensor]:
    blocks = {}
    for seed, layer in enumerate(weighted(layers)):
        weight, generator = layer.affine.weight, torch.Generator().manual_seed(seed)
        k = min(count, math.prod(layer.shape), len(weight))
        blocks[layer.name] = torch.randn((k, *layer.shape), generator=generator, device="cpu").to(weight)
    return blocks
