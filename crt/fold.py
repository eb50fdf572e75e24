"""A network for evaluation with each BatchNorm folded into the layer that it directly follows."""

import warnings
from collections import Counter
from typing import NamedTuple

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from crt.classifier import Classifier


class Folded(NamedTuple):
    """The same function up to rounding, and how many of its BatchNorms are gone and are left."""

    network: nn.Module
    gone: int
    left: int


def fold(model: nn.Module) -> Folded:
    """Fold what can be folded of a model in eval mode, which stays as it is; a warning says why nothing could."""
    norms = _norms(model)
    if not norms:
        return Folded(model, 0, 0)
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:  # what a network's own code raises when it is given no numbers
        return _unfolded(
            model, f"the network cannot be traced ({type(error).__name__}: {str(error).partition('. ')[0]})"
        )
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    if any(
        calls[name] > 1 for name, module in traced.named_modules() if next(module.parameters(False), None) is not None
    ):
        return _unfolded(model, "a layer is used twice")
    # Tracing loses hooks, and those of weight_norm would undo the folding.
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return _unfolded(model, "the network has hooks")
    network = fuse(traced, no_trace=True)
    left = _norms(network)
    return Folded(network, norms - left, left)


def plain(model: Classifier) -> Classifier:
    """The chain of layers that is the same function in eval mode, up to rounding, without BatchNorm.

    What has no BatchNorm is shared with the model; a model without any is returned itself.
    ValueError: a BatchNorm stands elsewhere than directly behind a convolution or linear layer of a chain.
    """
    if not _norms(model):
        return model
    layers: list[nn.Module] = []
    for layer in model.body.children() if isinstance(model.body, nn.Sequential) else [model.body]:
        if layers and isinstance(layer, _BatchNorm) and isinstance(layers[-1], nn.Conv2d | nn.Linear):
            layers[-1] = _fused(layers[-1], layer)
        else:
            layers.append(layer)
    with torch.device("meta"):  # where first weights draw no random numbers
        chain = Classifier(nn.Sequential(*layers), model.head.in_features, model.head.out_features, (0.0,), (1.0,))
    chain.normalize, chain.head = model.normalize, model.head
    if left := _norms(chain):
        raise ValueError(f"{left} BatchNorms do not directly follow a convolution or linear layer of a chain")
    return chain


def _fused(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm) -> nn.Conv2d | nn.Linear:
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    with torch.device("meta"):
        if isinstance(layer, nn.Linear):
            fused, fuse_weights = nn.Linear(layer.in_features, layer.out_features), fuse_linear_bn_weights
        else:
            fused = nn.Conv2d(
                *(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride),
                *(layer.padding, layer.dilation, layer.groups),
                padding_mode=layer.padding_mode,
            )
            fuse_weights = fuse_conv_bn_weights
    fused.weight, fused.bias = fuse_weights(layer.weight, layer.bias, *statistics)
    return fused


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def _unfolded(model: nn.Module, why: str) -> Folded:
    warnings.warn(f"BatchNorm is not folded: {why}", stacklevel=3)
    return Folded(model, 0, _norms(model))
