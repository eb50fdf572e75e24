"""Execution of the network in an evaluation: number formats, memory order and compilation."""

import copy
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.attacks.common import wide
from crt.evals.base import Evaluation
from crt.models.classifier import Classifier
from crt.training.precision import able, compile_body, products

__all__: list[str] = []


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Switches(Evaluation):
    """Evaluation whose arguments set, like a recipe's, how the network runs; its judgements are of that network."""

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Number format of the network's arithmetic, whose rounding is a part of the network; tf32 needs a GPU."""
    channels_last: bool = False
    compile: Literal[False, "default", "reduce-overhead"] = False
    """Mode of torch.compile for the network's body; reduce-overhead needs a GPU."""

    unsaid: ClassVar[frozenset[str]] = frozenset({"precision", "channels_last", "compile", "fold"})
    steady: ClassVar[bool] = False
    """True if batches have few sizes, so that it pays to search for the fastest kernels."""

    def arithmetic(self) -> AbstractContextManager[None]:
        return products(self.precision, trial=self.steady)

    def check_device(self, where: str, device: torch.device) -> None:
        able(where, self.precision, self.compile, device, "fp32, bf16")

    def ready(self, network: Classifier, unit: int) -> nn.Module:
        """A copy of the network that runs with these arguments; the network itself if all are off.

        If it is compiled, each batch is padded to a multiple of `unit` images, so that few sizes are compiled.
        ValueError for anything that the device or installation does not support.
        """
        if not (self.channels_last or self.compile or self.precision != "fp32"):
            return network
        self.check_device(f"{type(self).__name__}.", next(network.parameters()).device)
        network = copy.deepcopy(network)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.precision == "bf16":
            # Autocast would convert the weights in every pass.
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.bfloat16()
        if self.compile:
            compile_body(network.body, self.compile)
        return Ready(network, self, unit)


class Ready(nn.Module):
    """A network run with an evaluation's arguments, with logits in at least float32."""

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
            # CUDA graphs may overwrite the logits of the previous images.
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.low):
            return wide(self.network(x))[:size]
