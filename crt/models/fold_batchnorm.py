"""Networks for evaluation, with each BatchNorm folded into the layer that it directly follows."""

import copy
import warnings
from collections import Counter
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from crt.models.classifier import Classifier

Network = TypeVar("Network", bound=nn.Module)


class Folded(NamedTuple, Generic[Network]):
    """An equal function up to rounding, and the numbers of folded and remaining BatchNorms."""

    network: Network
    gone: int
    left: int


def fold(model: Network) -> Folded[Network]:
    """Fold what can be folded in a model in eval mode, which does not change; warn with the reason if nothing can."""
    folded, norms = twin(model), _norms(model)
    if folded is None:
        return Folded(model, 0, norms)
    return Folded(folded.now(), len(folded.folded), norms - len(folded.folded))


def twin(model: Network) -> "Twin[Network] | None":
    """The copy to attack; None where nothing can be folded, with a warning if there is a reason."""
    pairs = _pairs(model)
    return Twin(model, pairs) if pairs else None


def bare_twin(model: Classifier) -> "Twin[Classifier] | None":
    """The copy to attack of a network without BatchNorm; None where no ReLU follows a convolution of a chain.

    None, too, for a network with hooks, and for one that cannot be traced.
    """
    layers = list(model.body.children()) if isinstance(model.body, nn.Sequential) else []
    joined = any(type(layer) is nn.Conv2d and isinstance(after, nn.ReLU) for layer, after in pairwise(layers))
    if not joined or _norms(model) or _hooked(model):
        return None
    try:
        fx.symbolic_trace(model.body)
    except Exception:  # errors that a network's own code raises on tensors without values
        return None
    return Twin(model, [])


class Twin(Generic[Network]):
    """A copy in eval mode, without the BatchNorms that can be folded, of a model whose training may continue.

    Tensors that are equal in both networks share their memory, so that they need no copying.
    """

    def __init__(self, model: Network, pairs: list[tuple[str, str]]):
        self.network = copy.deepcopy(model).eval().requires_grad_(False)
        _share(self.network, model)
        self.folded: list[tuple[nn.Conv2d | nn.Linear, _BatchNorm, nn.Conv2d | nn.Linear]] = []
        """Layer, BatchNorm, and the layer that replaces both."""
        for layer, norm in pairs:
            # `_pairs` lists convolutions and linear layers that each have a BatchNorm.
            source, fused = (
                cast("nn.Conv2d | nn.Linear", network.get_submodule(layer)) for network in (model, self.network)
            )
            fused.weight = nn.Parameter(source.weight.detach().clone(), requires_grad=False)
            fused.bias = nn.Parameter(fused.weight.new_zeros(len(fused.weight)), requires_grad=False)
            self.network.set_submodule(norm, nn.Identity())
            self.folded.append((source, cast("_BatchNorm", model.get_submodule(norm)), fused))

    @torch.no_grad()
    def now(self) -> Network:
        """The network with the model's present weights and statistics, in tensors whose memory stays the same.

        Each layer takes one kernel, its weights' product; all else is computed for all layers at once.
        """
        if not self.folded:
            return self.network
        layers, norms, fused = zip(*self.folded, strict=True)
        means, variances = zip(*map(_statistics, norms), strict=True)
        scales = torch._foreach_add(variances, [norm.eps for norm in norms])
        torch._foreach_rsqrt_(scales)
        torch._foreach_mul_(scales, [norm.weight for norm in norms])
        biases = torch._foreach_neg(means)
        if own := [(bias, layer.bias) for bias, layer in zip(biases, layers, strict=True) if layer.bias is not None]:
            torch._foreach_add_(*map(list, zip(*own, strict=True)))
        biases = torch._foreach_addcmul([norm.bias for norm in norms], biases, scales)
        torch._foreach_copy_([layer.get_parameter("bias") for layer in fused], biases)
        for layer, scale, result in zip(layers, scales, fused, strict=True):
            torch.mul(layer.weight, scale.view(-1, *[1] * (layer.weight.dim() - 1)), out=result.weight)
        return self.network


def _share(network: nn.Module, model: nn.Module) -> None:
    """Give the tensors of a copy the memory of the model's; they have no gradients."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner, _, own = name.rpartition(".")
        network.get_submodule(owner)._parameters[own] = nn.Parameter(parameter.detach(), requires_grad=False)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        owner, _, own = name.rpartition(".")
        network.get_submodule(owner)._buffers[own] = buffer


def plain(model: Classifier) -> Classifier:
    """A chain of layers without BatchNorm that is the same function in eval mode, up to rounding.

    It shares all other layers with the model; a model without BatchNorm, and without its placeholder, is returned
    itself. ValueError where a BatchNorm does not directly follow a convolution or linear layer of a chain.
    """
    if not any(isinstance(module, _BatchNorm | nn.Identity) for module in model.body.modules()):
        return model
    layers: list[nn.Module] = []
    for layer in model.body.children() if isinstance(model.body, nn.Sequential) else [model.body]:
        if layers and isinstance(layer, _BatchNorm) and isinstance(layers[-1], nn.Conv2d | nn.Linear):
            layers[-1] = _fused(layers[-1], layer)
        elif not isinstance(layer, nn.Identity):
            layers.append(layer)
    chain = copy.copy(model)
    chain._modules = model._modules | {"body": nn.Sequential(*layers)}
    if left := _norms(chain):
        raise ValueError(f"{left} BatchNorms do not directly follow a convolution or linear layer of a chain")
    return chain


def _fused(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm) -> nn.Conv2d | nn.Linear:
    statistics = (*_statistics(norm), norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        with torch.device("meta"):
            linear = nn.Linear(layer.in_features, layer.out_features)
        linear.weight, linear.bias = fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)
        return linear
    with torch.device("meta"):
        # torch declares a convolution's pairs as tuples of any length.
        conv = nn.Conv2d(
            *(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride),  # type: ignore[arg-type]
            *(layer.padding, layer.dilation, layer.groups),  # type: ignore[arg-type]
            padding_mode=layer.padding_mode,
        )
    conv.weight, conv.bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics)
    return conv


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance; ValueError where a BatchNorm has none."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"{norm} has no running statistics (allowed: track_running_stats=True)")
    return norm.running_mean, norm.running_var


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of layers and BatchNorms, where each layer's only consumer is its BatchNorm."""
    if not _norms(model):
        return []
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:  # errors that a network's own code raises on tensors without values
        return _none(f"the network cannot be traced ({type(error).__name__}: {str(error).partition('. ')[0]})")
    modules, calls = dict(model.named_modules()), [n for n in traced.graph.nodes if n.op == "call_module"]
    times = Counter(node.target for node in calls)
    if any(times[name] > 1 for name, module in modules.items() if next(module.parameters(False), None) is not None):
        return _none("a layer is used twice")
    if _hooked(model):
        return _none("the network has hooks")
    follows = [(node.args[0], node.target) for node in calls if isinstance(modules[node.target], _BatchNorm)]
    alone = [(source.target, norm) for source, norm in follows if source in calls and len(source.users) == 1]
    return [pair for pair in alone if isinstance(modules[pair[0]], nn.Conv2d | nn.Linear) and modules[pair[1]].affine]


def _hooked(model: nn.Module) -> bool:
    """True for a network with hooks: tracing loses them, and weight_norm's would undo the folding."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _none(why: str) -> list:
    warnings.warn(f"BatchNorm is not folded: {why}", stacklevel=4)
    return []
