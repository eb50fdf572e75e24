"""Count a training method's passes through its networks while it trains on one loaded batch."""

import math

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.parametrize import register_parametrization

from bench.build.networks import method, network
from bench.cell import Cell
from crt.training.loop import Training
from crt.training.recipe import Recipe


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Passes:
    """Passes on one loaded batch of B images, in units of B network inputs."""

    forwards: float
    teacher_forwards: float
    input_backwards: float
    """Backward passes that compute the gradient of the network's input only."""
    backwards: float
    """Backward passes that compute the gradient of the weights; one through another's gradients counts as one more."""
    teacher_input_backwards: float = 0.0
    """Backward passes through the teacher, for the gradient of its input."""

    @property
    def steps(self) -> float:
        """The student's passes in units of a standard training step; each gradient costs as much as a forward pass."""
        return (self.forwards + self.input_backwards + 2 * self.backwards) / 3


def count(cell: Cell) -> Passes:
    """Passes of the cell's method in its last epoch, counted in the real training loop on tensors without storage."""
    with FakeTensorMode():
        student, teacher = network(cell), network(cell.teacher) if cell.teacher else None
        bound = method(cell, teacher)
        images = 2 * bound.chunks
        x = torch.empty(images, *cell.data.shape)
        y = torch.zeros(images, dtype=torch.long)
        calls, teacher_calls = _watch(student.body), _watch(teacher.body) if teacher else []
        last = max(cell.recipe.epochs - 1, math.ceil(bound.steady_from_epoch))
        plain = Recipe(epochs=cell.recipe.epochs, batch_size=images, lr=1.0)
        Training(bound, student, plain, ranks=1).epoch([(x, y, y)], last)
    return Passes(
        forwards=sum(call.inputs for call in calls) / images,
        teacher_forwards=sum(call.inputs for call in teacher_calls) / images,
        input_backwards=_input_backwards(calls) / images,
        backwards=sum(call.inputs * (call.to_weight + call.through_gradient) for call in calls) / images,
        teacher_input_backwards=_input_backwards(teacher_calls) / images,
    )


class _Call:
    """A forward call: number of its inputs, and of gradients computed of them, of the first weight and of gradients."""

    def __init__(self, inputs: int):
        self.inputs, self.to_input, self.to_weight, self.through_gradient = inputs, 0, 0, 0
        self.weight: Tensor | None = None

    def input_hook(self, g: Tensor) -> None:
        self.to_input += 1
        if g.requires_grad:
            g.register_hook(self.gradient_hook)

    def gradient_hook(self, _: Tensor) -> None:
        self.through_gradient += 1

    def weight_hook(self, _: Tensor) -> None:
        self.to_weight += 1


def _input_backwards(calls: list[_Call]) -> float:
    """Inputs of which only the gradient of the input was computed, as often as it was."""
    return sum(call.inputs * max(call.to_input - call.to_weight, 0) for call in calls)


class _Alias(nn.Module):
    """Gives each forward call its own view of the weight.

    A backward pass through several calls sums their gradients before they reach the weight itself.
    """

    def __init__(self):
        super().__init__()
        self.call: _Call | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.call is None or not (weight.requires_grad and torch.is_grad_enabled()):
            return weight
        if self.call.weight is None:
            self.call.weight = weight.view_as(weight)
            self.call.weight.register_hook(self.call.weight_hook)
        return self.call.weight


def _watch(body: nn.Module) -> list[_Call]:
    """List to which every further forward call of `body` is appended."""
    calls, alias = [], _Alias()
    owner, _, name = next(iter(body.named_parameters()))[0].rpartition(".")
    register_parametrization(body.get_submodule(owner), name, alias)

    def enter(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        alias.call = _Call(len(x))
        calls.append(alias.call)
        if x.requires_grad and torch.is_grad_enabled():
            x = x.view_as(x)
            x.register_hook(alias.call.input_hook)
        return (x,)

    def leave(*_: object) -> None:
        alias.call = None

    body.register_forward_pre_hook(enter)
    body.register_forward_hook(leave)
    return calls
