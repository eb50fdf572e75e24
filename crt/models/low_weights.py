"""Weights in a lower precision for several passes without weight gradients, where autocast would cast them in each."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import nn

from crt.models.classifier import Classifier


class LowWeights:
    """Copies in `dtype` of the float32 weights and biases of a network's convolutions and linear layers.

    Autocast keeps its casts of weights that have gradients until a step's end, and casts others in each pass.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        self.network, self.dtype = network, dtype

    @cached_property
    def parts(self) -> list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]]:
        """Module, name of the parameter, the parameter, and its copy; made at the first use, which few methods have."""
        parts: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                for name, weight in module.named_parameters(recurse=False):
                    if weight.dtype == torch.float32:
                        copy = nn.Parameter(weight.detach().to(self.dtype), requires_grad=False)
                        parts.append((module, name, weight, copy))
        return parts

    def wanted(self) -> bool:
        """True under autocast to their precision."""
        device = next(self.network.parameters()).device.type
        return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == self.dtype

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the present weights; the memory of the copies stays the same."""
        if self.parts:
            _, _, weights, copies = zip(*self.parts, strict=True)
            torch._foreach_copy_(copies, weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the network has the copies as its weights."""
        for module, name, _, copy in self.parts:
            module._parameters[name] = copy
        try:
            yield
        finally:
            for module, name, weight, _ in self.parts:
                module._parameters[name] = weight


@contextmanager
def low_weights(network: nn.Module, constant: bool = False) -> Iterator[None]:
    """Context of passes without weight gradients: under autocast, a network that has low weights runs with them.

    They are cast at the start, or were in the beginning where the network is `constant`.
    """
    low = network.low if isinstance(network, Classifier) else None
    if low is None or not low.wanted():
        yield
        return
    if not constant:
        low.refresh()
    with low.in_place():
        yield
