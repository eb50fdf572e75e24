"""Layers of networks that are chains, and norms of layers by power iteration, for restatements of bounds."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.plain_eager.base import Restatement
from crt.models.classifier import Classifier

__all__: list[str] = []


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a chain, in order."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from layers(child)
    else:
        yield module


def has_weights(layer: nn.Module) -> bool:
    """True for a convolution or linear layer."""
    return isinstance(layer, nn.Conv2d | nn.Linear)


def linear(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """The layer without its bias on inputs (B, *shape), with the weights given."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, stride=layer.stride, padding=layer.padding)
    return F.linear(x, weight)


def adjoint(layer: nn.Module, y: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """The transposed map, from outputs (B, ...) to inputs (B, *shape)."""
    if not isinstance(layer, nn.Conv2d):
        return y @ weight
    missing = []
    for k in range(2):
        reached = (y.shape[2 + k] - 1) * layer.stride[k] - 2 * zeros(layer)[k] + layer.kernel_size[k]
        missing.append(shape[1 + k] - reached)
    return F.conv_transpose2d(y, weight, stride=layer.stride, padding=zeros(layer), output_padding=missing)


def zeros(layer: nn.Conv2d) -> tuple[int, ...]:
    """Zeros on each side of a convolution's inputs."""
    return tuple(map(int, layer.padding))


def per_channel(values: Tensor, outputs: Tensor) -> Tensor:
    """One value for each output channel, shaped to broadcast over outputs (B, C, ...)."""
    return values.view(-1, *[1] * (outputs.dim() - 2))


def scale(model: Classifier) -> Tensor:
    """Lipschitz constant of the normalization."""
    return 1 / model.normalize.std.min()


class PowerIterations:
    """Norms of layers, from vectors that are kept between steps, one for each layer (Tsuzuku et al., 2018, section 4).

    The estimate is |W v|, with a gradient for W alone, as by the authors of LMT and GloRo. The authors of BCP and
    LocalBCP also differentiate the iterations; both gradients agree once v has converged.
    """

    def __init__(self, count: int):
        self.count = count
        self.vectors: dict[int, Tensor] = {}
        """Vector (1, *shape) of each layer's inputs, by the layer's position."""

    def norm(self, position: int, layer: nn.Module, shape: torch.Size) -> Tensor:
        """Estimate of the layer's norm for inputs (B, *shape) after further iterations."""
        weight = weights(layer)
        v = self.vectors.get(position)
        if v is None:
            v = torch.randn((1, *shape), dtype=weight.dtype, device=weight.device)
        with torch.no_grad():
            for _ in range(self.count):
                y = linear(layer, v, weight)
                v = adjoint(layer, y / y.norm(), weight, shape)
                v = v / v.norm()
        self.vectors[position] = v
        return linear(layer, v, weight).norm()


class BlockIterations:
    """Orthonormal bases of layers' leading right singular vectors, kept between steps, by power iteration with QR."""

    def __init__(self, count: int, size: int):
        self.count, self.size = count, size
        self.vectors: dict[int, Tensor] = {}
        """Basis (k, *shape) of each layer, by the layer's position; k is `size`, or the layer's inputs or channels."""

    @torch.no_grad()
    def basis(self, position: int, layer: nn.Module, shape: torch.Size) -> Tensor:
        """The layer's basis for inputs (B, *shape) after further iterations."""
        weight = weights(layer)
        v = self.vectors.get(position)
        if v is None:
            k = min(self.size, shape.numel(), len(weight))
            v = torch.randn((k, *shape), dtype=weight.dtype, device=weight.device)
        for _ in range(self.count):
            z = adjoint(layer, linear(layer, v, weight), weight, shape)
            v = torch.linalg.qr(z.flatten(1).T)[0].T.reshape(z.shape)
        self.vectors[position] = v
        return v


class Bounded(Restatement):
    """Base class of restatements that estimate norms of layers."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.norms = PowerIterations(self.settings.power_iterations)


def weights(layer: nn.Module) -> Tensor:
    """The weights of a convolution or linear layer."""
    return layer.get_parameter("weight")


def ramp(epoch: float, warmup: float, epochs: float) -> float:
    """Share of the full radius: 0 at the end of the warm-up, and 1 after `epochs` more."""
    return min(max((epoch - warmup) / epochs, 0.0), 1.0)


def ball_translation(head: nn.Linear, rho: Tensor) -> Tensor:
    """Largest changes (classes, classes) of logit i relative to logit j over a ball of features (LMT, section 4)."""
    return rho * (head.weight[:, None] - head.weight[None]).norm(dim=2)
