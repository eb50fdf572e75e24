"""Convolutions and BatchNorms whose input gradients have cheap gradients themselves.

torch takes the gradient of a convolution's input gradient by a convolution whose kernels are as large as images, and
that of BatchNorm's by some thirty operations. Here, both take a few of torch's operations for first gradients.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten


class GradientsOfGradients(TorchFunctionMode):
    """Context of passes whose gradients with respect to the input are differentiated again.

    Within it, convolutions of images and BatchNorms with the statistics of a batch are those of this module; under
    autocast, they are torch's. Their gradients with respect to weights cannot be differentiated again.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _OWN.get(func, func)(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """torch.conv2d, with the names of its arguments."""
    if isinstance(padding, str) or not _usual(input):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _Convolution.apply(input, weight, bias, *map(_pair, (stride, padding, dilation)), groups)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm, with the names of its arguments."""
    if not training or weight is None or not _usual(input):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _BatchNorm.apply(input, running_mean, running_var, weight, bias, momentum, eps)


_OWN: dict[Callable[..., Any], Callable[..., Any]] = {torch.conv2d: _conv2d, F.batch_norm: _batch_norm}


def _usual(x: Tensor) -> bool:
    kind = x.device.type
    # The meta device, where operations are counted, has no autocast.
    return x.dim() == 4 and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, *settings):
        ctx.save_for_backward(x, weight)
        ctx.biased, ctx.settings = bias is not None, settings
        return torch.conv2d(x, weight, bias, *settings)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _ConvolutionGradient.apply(g, x, weight, ctx.settings), *[None] * 6
        wanted = (ctx.needs_input_grad[0], True, ctx.biased)
        return *_convolution_gradients(g, x, weight, ctx.settings, wanted), *[None] * 4


class _ConvolutionGradient(torch.autograd.Function):
    """Gradient of a convolution with respect to its input."""

    @staticmethod
    def forward(ctx, g, x, weight, settings):
        ctx.save_for_backward(g, weight)
        ctx.settings = settings
        return _convolution_gradients(g, x, weight, settings, (True, False, False))[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        g, weight = ctx.saved_tensors
        to_g = torch.conv2d(v, weight, None, *ctx.settings)
        return to_g, None, _convolution_gradients(g, v, weight, ctx.settings, (False, True, False))[1], None


def _convolution_gradients(
    g: Tensor, x: Tensor, weight: Tensor, settings: tuple[Any, ...], wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the input, the weight and the bias, those that are wanted."""
    stride, padding, dilation, groups = settings
    sizes = [len(weight)] if wanted[2] else None
    return _aten.convolution_backward(g, x, weight, sizes, stride, padding, dilation, False, (0, 0), groups, wanted)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, running_mean, running_var, weight, bias, momentum, eps):
        out, mean, inverse = _aten.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx, g):
        if torch.is_grad_enabled():
            return _BatchNormGradient.apply(g, *ctx.saved_tensors, ctx.eps), *[None] * 6
        to_x, to_weight, to_bias = _norm_gradients(g, *ctx.saved_tensors, ctx.eps)
        return to_x, None, None, to_weight, to_bias, None, None


class _BatchNormGradient(torch.autograd.Function):
    """Gradient of a BatchNorm with respect to its input.

    With means over images and positions, the normalized input z, the inverse deviation s and P(g) = g - mean(g) -
    z mean(g z), it is weight s P(g). P is its own adjoint, so that the gradient with respect to g is a BatchNorm's.
    """

    @staticmethod
    def forward(ctx, g, x, weight, mean, inverse, eps):
        out, product, total = _norm_gradients(g, x, weight, mean, inverse, eps)
        ctx.save_for_backward(g, x, weight, mean, inverse, product, total)
        ctx.eps = eps
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        g, x, weight, mean, inverse, *sums = ctx.saved_tensors
        to_g, *more = _norm_gradients(v, x, weight, mean, inverse, ctx.eps)
        count = x.numel() // x.shape[1]
        # Means over images and positions: of g z, g, v z, v, and the covariance of v and g.
        gz, g_mean, vz, v_mean = (total / count for total in (*sums, *more))
        covariance = (v * g).sum((0, 2, 3)) / count - v_mean * g_mean
        scale = -weight * inverse.square()
        along = scale * inverse * (covariance - 3 * gz * vz)
        rest = -scale * (gz * v_mean + vz * g_mean) - along * mean
        channels = lambda values: values.view(-1, 1, 1)  # noqa: E731
        to_x = torch.addcmul(channels(rest), v, channels(scale * gz))
        to_x.addcmul_(g, channels(scale * vz)).addcmul_(x, channels(along))
        return to_g, to_x, count * inverse * (covariance - gz * vz), None, None, None


def _norm_gradients(
    g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, of the weight, the sum of g z, and of the bias, the sum of g."""
    wanted = (True, True, True)
    return _aten.native_batch_norm_backward(g, x, weight, None, None, mean, inverse, True, eps, wanted)
