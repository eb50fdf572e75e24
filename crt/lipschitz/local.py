"""Norms of layers without the neurons that are constant near an image (Huang et al., 2021, arxiv.org/abs/2111.01395).

A neuron that is constant in the whole ball transmits no difference and may be left out of the layers before and behind
it. The norms of the remaining parts are specific to an image. In training they are estimated; for certificates they are
bounded by Lanczos' algorithm from a random start, whose error is bounded for all but a small share of starts, whatever
the layer (Kuczynski and Wozniakowski, 1992, https://doi.org/10.1137/0613066, theorem 4.2).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crt.lipschitz.affine import backwards
from crt.lipschitz.boxes import Region, regions
from crt.lipschitz.chain import AFFINE, Layer, multiply, scale, transposed
from crt.lipschitz.norms import DOUBLED, Norms
from crt.models.activations import ReLUTheta
from crt.models.classifier import Classifier

LANCZOS = 200
"""Steps of Lanczos' algorithm; they leave a norm over 32,768 inputs uncertain by a quarter of a percent."""
FAILURE = 1e-9
"""Probability that the random start makes an image's norm of a layer too small."""
PUBLISHED = 2000
"""Largest number of power iterations for each image's norm in the authors' evaluation."""
TOLERANCE = 1e-3
"""Length of a step below which a vector of those iterations has converged."""


class Part(NamedTuple):
    """A layer without the neurons that are constant near each image."""

    layer: Layer
    inner: Tensor
    """1 where an input varies, else 0, (B, *shape)."""
    outer: Tensor | None
    """1 where an output varies behind the activation, else 0; None where the activation mixes outputs."""


def parts(layers: tuple[Layer, ...], regions: list[Region]) -> tuple[Part, ...]:
    """Varying parts of all layers with weights except the head, each over its input's region."""
    varying, varies = [], cache(lambda i: _varies(regions[i]))
    for i, layer in enumerate(layers[:-1]):
        if isinstance(layer.module, AFFINE):
            alone = isinstance(layers[i + 1].module, nn.ReLU | ReLUTheta)
            varying.append(Part(layer, varies(i), varies(i + 2) if alone else None))
    return tuple(varying)


@torch.no_grad()
def local_region(
    model: Classifier,
    layers: tuple[Layer, ...],
    x: Tensor,
    eps: float | Tensor,
    norms: dict[str, Tensor],
    how: Norms,
    seeds: list[int],
) -> Region:
    """Region of the features of images `x` (B, C, H, W), whose ball is computed from the images' own norms.

    The norms are bounds that hold with probability 1 - FAILURE each, or as published. An image's start is drawn from
    its seed.
    """
    inputs, own = regions(model, layers, x, eps, norms), []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for part in parts(layers, inputs):
        draws = [torch.randn(part.layer.shape, generator=generator, dtype=x.dtype) for generator in generators]
        v = torch.stack(draws).to(x.device)
        own.append(local_upper(part, v, norms[part.layer.name]) if how == "fft_upper" else local_converged(part, v))
    return inputs[-1]._replace(rho=last_ball(model, eps, math.prod(own)))


def local_forwards(how: Norms) -> int:
    """Largest number of forward passes for an image's own norms."""
    return 2 * LANCZOS if how == "fft_upper" else 2 * PUBLISHED + 1


def last_ball(model: Classifier, eps: float | Tensor, product: Tensor | int) -> Tensor:
    """Radius (B,) of the ball that contains the features, from the product (B,) of all layers' local norms."""
    return eps * scale(model) * product


def local_estimate(part: Part, v: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Lower estimates (B,) of local norms after power iterations from `v` (B, *shape), and the resulting vectors.

    As in `norms.estimates`, the iterations have no gradient, and the norm's gradient is that of |W v|.
    """
    (v,) = iterated((part,), [v], iterations)
    return local_product((part,), [v]), v


def local_product(parts: tuple[Part, ...], vectors: list[Tensor]) -> Tensor:
    """Product (B,) of the parts' lengths |W v| for vectors (B, *shape), which have no gradient."""
    return _Product.apply(parts, vectors, *(part.layer.affine.weight for part in parts))


class _Product(torch.autograd.Function):
    """`local_product` from the layers' weights."""

    @staticmethod
    def forward(ctx, parts: tuple[Part, ...], vectors: list[Tensor], *weights: Tensor):
        outputs = [multiply(part.layer.affine, v) for part, v in zip(parts, vectors, strict=True)]
        _leave_out(outputs, [part.outer for part in parts])
        lengths = torch.stack([_length(output) for output in outputs])
        product = lengths.prod(0)
        ctx.save_for_backward(lengths, product, *vectors, *outputs, *weights)
        ctx.layers = [part.layer.affine for part in parts]
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (lengths, product, *saved), count = ctx.saved_tensors, len(ctx.layers)
        # Where a length is zero, so are its gradient and, for the others, the product of the rest.
        shares = (g * product / lengths.square()).masked_fill_(lengths == 0, 0)
        return (
            None,
            None,
            *(
                backwards(layer, _beside(share, u) * u, v, weight, biased=False, to_x=False)[1]
                for layer, share, v, u, weight in zip(
                    ctx.layers, shares, *(saved[k * count :][:count] for k in range(3)), strict=True
                )
            ),
        )


@torch.no_grad()
def local_converged(part: Part, v: Tensor) -> Tensor:
    """Local norms (B,) as published: power iteration from `v` (B, *shape) until it hardly moves; a lower bound."""
    moving = torch.ones(len(v), dtype=torch.bool, device=v.device)
    for _ in range(PUBLISHED):
        (after,) = iterated((part,), [v], 1)
        moved = _length(after - v) >= TOLERANCE
        # The vector of each image stops by itself, so that its norm does not depend on the others'.
        v, moving = torch.where(_beside(moving, v), after, v), moving & moved
        if not moving.any():
            break
    return local_product((part,), [v])


@torch.no_grad()
def local_upper(part: Part, v: Tensor, norm: Tensor) -> Tensor:
    """Upper bounds (B,) of local norms, at most `norm`, from random directions `v` (B, *shape).

    Each holds with probability 1 - FAILURE.
    """
    v = v / _beside(_length(v), v)
    before, off = torch.zeros_like(v), v.new_zeros(len(v))
    diagonal, beside = [], []
    for _ in range(LANCZOS):
        (w,) = _squared((part,), [part.inner * v])
        w = w - _beside(off, v) * before
        diagonal.append((w * v).flatten(1).sum(1))
        w = w - _beside(diagonal[-1], v) * v
        off = _length(w)
        beside.append(off)
        # Where the remainder is zero, further steps add zeros.
        before, v = v, torch.where(_beside(off > 0, w), w / _beside(off, w), 0)
    ritz = torch.diag_embed(torch.stack(diagonal, 1)) + torch.diag_embed(torch.stack(beside[:-1], 1), -1)
    largest = torch.linalg.eigvalsh(ritz)[:, -1].clamp_min(0)
    return torch.minimum((largest / (1 - uncertain(v[0].numel(), LANCZOS, FAILURE))).sqrt(), norm)


def uncertain(inputs: int, steps: int, failure: float) -> float:
    """Relative error of Lanczos' algorithm for the largest eigenvalue of a matrix with this many rows."""
    return min((math.log(1.648 * math.sqrt(inputs) / failure) / (2 * steps - 1)) ** 2, 1 - 1e-9)


@torch.no_grad()
def iterated(parts: tuple[Part, ...], vectors: list[Tensor], iterations: int) -> list[Tensor]:
    """Vectors (B, *shape) after power iterations of all parts together, of length 1, or 0 where nothing varies."""
    vectors = [part.inner * v for part, v in zip(parts, vectors, strict=True)]
    for left in reversed(range(iterations)):
        vectors = _squared(parts, vectors)
        if left % DOUBLED == 0:
            lengths = [_length(v) for v in vectors]
            torch._foreach_clamp_min_(lengths, torch.finfo(lengths[0].dtype).tiny)
            vectors = [v.div_(_beside(length, v)) for v, length in zip(vectors, lengths, strict=True)]
    return vectors


def _squared(parts: tuple[Part, ...], vectors: list[Tensor]) -> list[Tensor]:
    """Apply the parts of layers and their transposes to inputs (B, *shape), which are 0 where none varies."""
    modules = [part.layer.affine for part in parts]
    outputs = [multiply(module, v) for module, v in zip(modules, vectors, strict=True)]
    _leave_out(outputs, [part.outer for part in parts])
    found = [
        transposed(module, u, part.layer.shape, module.weight)
        for module, u, part in zip(modules, outputs, parts, strict=True)
    ]
    _leave_out(found, [part.inner for part in parts])
    return found


def _leave_out(values: list[Tensor], varying: Sequence[Tensor | None]) -> None:
    """Set values (B, *shape) to 0 in place where a mask is 0; None leaves all."""
    if pairs := [pair for pair in zip(values, varying, strict=True) if pair[1] is not None]:
        torch._foreach_mul_(*map(list, zip(*pairs, strict=True)))


def _varies(region: Region) -> Tensor:
    # The activation maps the interval of a neuron that it makes constant to a point.
    low, high = region.low, region.high
    return torch.gt(high, low, out=torch.empty_like(high))


def _length(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=[*range(1, v.dim())])


def _beside(values: Tensor, v: Tensor) -> Tensor:
    """One value for each image, shaped to broadcast over tensors (B, ...)."""
    return values.view(-1, *[1] * (v.dim() - 1))
