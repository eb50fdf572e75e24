"""How an evaluation runs the network that it judges: number formats, memory order, compilation."""

import copy
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks import wide
from crt.switches import able, compile_body


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Switches:
    """Arguments of evaluations that recipes have too. An answer is about the network as it is run here."""

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """What the network computes in; with tf32, which needs a GPU, and bf16 it is another network, up to rounding."""
    channels_last: bool = False
    compile: Literal[False, "default", "reduce-overhead"] = False
    """Of its body, by a mode of torch.compile; reduce-overhead needs a GPU."""

    unsaid: ClassVar[frozenset[str]] = frozenset({"precision", "channels_last", "compile", "fold"})
    """Arguments that are no part of an identity at their defaults: there were answers before there were these."""

    def ready(self, network: nn.Module, unit: int) -> nn.Module:
        """A copy that runs so; the network itself where nothing is switched on.

        Where it is compiled, each pass is filled up to a multiple of `unit` images, so that few sizes are compiled.
        ValueError for what the device or installation cannot do.
        """
        if not (self.channels_last or self.compile or self.precision != "fp32"):
            return network
        able(f"{type(self).__name__}.", self.precision, self.compile, next(network.parameters()).device, "fp32, bf16")
        network = copy.deepcopy(network)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.precision == "bf16":
            # What autocast would do to them in every pass.
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.bfloat16()
        if self.compile:
            compile_body(network.body, self.compile)
        return Ready(network, self, unit)


class Ready(nn.Module):
    """A network as an evaluation's switches have it, with logits in float32 at least."""

    def __init__(self, network: nn.Module, switches: Switches, unit: int):
        super().__init__()
        self.network, self.mode = network, switches.compile
        self.low = switches.precision == "bf16"
        self.unit = unit if self.mode else 1

    def forward(self, x: Tensor) -> Tensor:
        size = len(x)
        if lacking := -size % self.unit:
            x = torch.cat([x, x[:1].expand(lacking, *x.shape[1:])])
        if self.mode == "reduce-overhead":
            # What CUDA graphs gave for the last images may be overwritten.
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.low):
            return wide(self.network(x))[:size]
