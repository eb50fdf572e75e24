"""Operator norms of layers at their own input sizes: estimates for training, and bounds for certificates.

The bound for convolutions is that of Sedghi et al., 2019 (https://arxiv.org/abs/1805.10408), on the padded input: a
convolution without padding is a part of the circular one.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crt.lipschitz.affine import backwards
from crt.lipschitz.chain import Layer, multiply, padding, transposed, weighted

Norms = Literal["fft_upper", "power_iteration"]
SHIFT = 1e-18
"""Added to squared norms in power iterations: it keeps the iterate finite when all weights are zero."""


DOUBLED = 2
"""Power iterations between two divisions by the length, which float32 bears for norms from 1e-4 to 1e4."""


def first_vectors(layers: tuple[Layer, ...]) -> dict[str, Tensor]:
    """Initial vectors of power iterations, equal on every rank: normal (1, *shape) for each layer with weights."""
    vectors = {}
    for seed, layer in enumerate(weighted(layers)):
        generator = torch.Generator().manual_seed(seed)
        vectors[layer.name] = torch.randn((1, *layer.shape), generator=generator, device="cpu").to(layer.affine.weight)
    return vectors


def estimates(
    layers: tuple[Layer, ...], vectors: dict[str, Tensor], iterations: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Lower estimates of the norms of layers with weights after power iterations from `vectors`, and the new vectors.

    The iterations have no gradient; the norm's gradient is that of |W v|, which equals the exact norm's once v has
    converged. The call belongs inside `exact`.
    """
    chosen = weighted(layers)
    after = _iterated(chosen, [vectors[layer.name] for layer in chosen], iterations)
    norms = _Lengths.apply(chosen, after, *(layer.affine.weight for layer in chosen))
    names = [layer.name for layer in chosen]
    return dict(zip(names, norms, strict=True)), dict(zip(names, after, strict=True))


class _Lengths(torch.autograd.Function):
    """Lengths |W v| for the weights of layers and vectors (1, *shape) without gradients."""

    @staticmethod
    def forward(ctx, layers: tuple[Layer, ...], vectors: list[Tensor], *weights: Tensor):
        outputs = [multiply(layer.affine, v) for layer, v in zip(layers, vectors, strict=True)]
        lengths = torch._foreach_norm(outputs)
        ctx.save_for_backward(*vectors, *outputs, *lengths, *weights)
        ctx.layers = layers
        return tuple(lengths)

    @staticmethod
    @once_differentiable
    def backward(ctx, *g):
        count = len(ctx.layers)
        vectors, outputs, lengths, weights = (ctx.saved_tensors[k * count :][:count] for k in range(4))
        found = [
            backwards(layer.affine, u, v, weight, biased=False, to_x=False)[1]
            for layer, u, v, weight in zip(ctx.layers, outputs, vectors, weights, strict=True)
        ]
        # A length of zero has the gradient zero.
        lengths = torch.stack(lengths)
        for part, share in zip(found, torch.stack(g) / lengths.masked_fill(lengths == 0, torch.inf), strict=True):
            part.mul_(share)
        return None, None, *found


@torch.no_grad()
def final_norms(layers: tuple[Layer, ...], how: Norms) -> dict[str, Tensor]:
    """Norms of layers with weights in float64: upper bounds, or power iteration until convergence."""
    norm = upper_norm if how == "fft_upper" else converged_norm
    return {layer.name: norm(layer).to(layer.affine.weight.device) for layer in weighted(layers)}


def upper_norm(layer: Layer) -> Tensor:
    """Upper bound of the norm: exact for a linear layer; for a convolution the largest norm over all frequencies."""
    module = layer.affine
    weight = module.weight.detach().double().cpu()
    if isinstance(module, nn.Linear):
        return torch.linalg.matrix_norm(weight, 2)
    (outputs, _, *kernel), (s, t) = weight.shape, module.stride
    # With its s t phases as channels of a smaller grid, the input is convolved with stride 1.
    rows, columns = -(-kernel[0] // s), -(-kernel[1] // t)
    weight = nn.functional.pad(weight, (0, columns * t - kernel[1], 0, rows * s - kernel[0]))
    weight = weight.view(outputs, -1, rows, s, columns, t).permute(0, 1, 3, 5, 2, 4).reshape(outputs, -1, rows, columns)
    sizes = zip(layer.shape[1:], padding(module), (s, t), strict=True)
    grid = [-(-(n + 2 * p) // step) for n, p, step in sizes]
    return torch.linalg.matrix_norm(torch.fft.rfft2(weight, grid).permute(2, 3, 0, 1), 2).max()


def converged_norm(layer: Layer, tolerance: float = 1e-5, cap: int = 1_000_000) -> Tensor:
    """Norm by power iteration until a step moves the vector by less than `tolerance`: a lower bound."""
    v, moved = first_vectors((layer,))[layer.name].double(), torch.inf
    while moved >= tolerance and cap > 0:
        before, cap = v, cap - 1
        (v,) = _iterated((layer,), [before], 1)
        moved = float(torch.linalg.vector_norm(v - before))
    return torch.linalg.vector_norm(multiply(layer.affine, v, layer.affine.weight.detach().double()))


@torch.no_grad()
def _iterated(layers: tuple[Layer, ...], vectors: list[Tensor], iterations: int) -> list[Tensor]:
    weights = [layer.affine.weight.to(v.dtype) for layer, v in zip(layers, vectors, strict=True)]
    after = vectors
    for left in reversed(range(iterations)):
        after = [
            transposed(layer.affine, multiply(layer.affine, v, weight), layer.shape, weight)
            for layer, v, weight in zip(layers, after, weights, strict=True)
        ]
        if left % DOUBLED == 0:
            torch._foreach_add_(after, vectors, alpha=SHIFT)
            after = vectors = [u.div_(length) for u, length in zip(after, torch._foreach_norm(after), strict=True)]
    return vectors
