"""A network for evaluation with each BatchNorm folded into the convolution that it directly follows."""

import warnings
from collections import Counter
from typing import NamedTuple

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm


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


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def _unfolded(model: nn.Module, why: str) -> Folded:
    warnings.warn(f"BatchNorm is not folded: {why}", stacklevel=3)
    return Folded(model, 0, _norms(model))
