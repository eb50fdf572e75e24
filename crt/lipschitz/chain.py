"""Networks as chains of layers, over which bounds are computed, and the arithmetic of bounds."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.training.precision import rounding

AFFINE = (nn.Conv2d, nn.Linear)
_ALLOWED = "Linear, Conv2d without groups, dilation and padding other than zeros, ReLU, ReLUTheta, MaxMin, Flatten"


class Layer(NamedTuple):
    """A layer and its position in a network."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    """Shape of the layer's input, for one image."""

    @property
    def affine(self) -> nn.Conv2d | nn.Linear:
        """Module of a layer with weights; TypeError for another layer."""
        if not isinstance(self.module, AFFINE):
            raise TypeError(f"{self.name}: {type(self.module).__name__} has no weights (allowed: Conv2d, Linear)")
        return self.module


def check(model: Classifier, batchnorm: bool = False) -> None:
    """Raise ValueError with the name of a layer of the body that has no bound; BatchNorm has one if `batchnorm`."""
    for name, module in _modules("body", model.body):
        match module:
            case nn.Conv2d(groups=1, dilation=(1, 1), padding_mode="zeros", padding=tuple()):
                continue
            case nn.Linear() | nn.ReLU() | ReLUTheta() | MaxMin() | nn.Flatten(start_dim=1, end_dim=-1):
                continue
            case nn.BatchNorm1d() | nn.BatchNorm2d() if batchnorm and module.affine and module.track_running_stats:
                continue
        kind, more = ("interval", ", BatchNorm with statistics") if batchnorm else ("Lipschitz", "")
        raise ValueError(f"{name}: {module} has no {kind} bound (allowed: {_ALLOWED}{more})")


def chain(model: Classifier, shape: tuple[int, ...], batchnorm: bool = False) -> tuple[Layer, ...]:
    """Layers for images of a shape (C, H, W), those of the body in order, then the head; ValueError from `check`."""
    check(model, batchnorm)
    layers = []
    for name, module in (*_modules("body", model.body), ("head", model.head)):
        layers.append(Layer(name, module, tuple(shape)))
        shape = _after(module, tuple(shape))
    return tuple(layers)


def weighted(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Layers that have weights, and thus a norm."""
    return tuple(layer for layer in layers if isinstance(layer.module, AFFINE))


def scale(model: Classifier) -> Tensor:
    """Lipschitz constant of the normalization."""
    return 1 / model.normalize.std.min()


def multiply(module: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Linear map of the layer on inputs (B, *shape), without its bias and optionally with other weights."""
    weight = module.weight if weight is None else weight
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, None, module.stride, module.padding)


def transposed(module: nn.Conv2d | nn.Linear, y: Tensor, shape: tuple[int, ...], weight: Tensor) -> Tensor:
    """Transposed map of outputs `y` to inputs of `shape`."""
    if isinstance(module, nn.Linear):
        return F.linear(y, weight.T)
    zeros = padding(module)
    sizes = zip(shape[1:], y.shape[2:], module.stride, zeros, module.kernel_size, strict=True)
    short = tuple(size - ((out - 1) * s - 2 * p + k) for size, out, s, p, k in sizes)
    return F.conv_transpose2d(y, weight, None, module.stride, zeros, short)


def padding(module: nn.Conv2d) -> tuple[int, ...]:
    """Zeros on each side of a convolution's inputs; TypeError for padding given by name, which `check` refuses."""
    if isinstance(module.padding, str):
        raise TypeError(f"padding={module.padding!r} (allowed: numbers)")
    return module.padding


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Turn off autocast and TF32, which would invalidate bounds; a backward pass may still use either."""
    # The meta device, where operations are counted, has no autocast to turn off.
    known = torch.amp.is_autocast_available(device.type)
    with rounding("ieee"), torch.autocast(device.type, enabled=False) if known else nullcontext():
        yield


def _modules(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(module, nn.Sequential):
        yield name, module
        return
    for key, child in module.named_children():
        yield from _modules(f"{name}.{key}", child)


def _after(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    match module:
        case nn.Conv2d():
            sizes = zip(shape[1:], module.stride, padding(module), module.kernel_size, strict=True)
            return (module.out_channels, *((n + 2 * p - k) // s + 1 for n, s, p, k in sizes))
        case nn.Linear():
            return (module.out_features,)
        case nn.Flatten():
            return (torch.Size(shape).numel(),)
    return shape
