"""Count floating-point operations and bytes moved on the meta device, where tensors have shapes and no storage."""

import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from bench.build.networks import method, untrained
from bench.build.uncompiled import uncompiled
from bench.cell import Cell, Weights
from crt.training.average import WeightAverage
from crt.training.loop import optimizer
from crt.training.method import Objective, Step

_aten = torch.ops.aten
_STILL = {
    *(_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided),
    _aten._unsafe_view,
}
"""Operations that move no bytes, besides views."""


class _Shape(NamedTuple):
    """Properties of a tensor on the meta device that an operation's result can depend on."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class _Known(NamedTuple):
    """Result and cost of an operation that ran before."""

    out: Any
    """The result, with a `_Shape` in place of each tensor."""
    flops: int
    traffic: int


class Counter(TorchDispatchMode):
    """Adds up `flops` (a multiplication and an addition count as two) and `traffic`, the bytes read and written.

    Every operation is assumed to run on its own; views and memory without values move no bytes. An operation without
    side effects runs once for each combination of shapes and arguments, because networks repeat their layers and
    attacks their steps.
    """

    def __init__(self):
        super().__init__()
        self.flops, self.traffic = 0, 0
        self._known: dict[Hashable, _Known] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # No code under this mode is compiled, and the default would import torch's compiler.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        key = _key(func, args, kwargs)
        if key is None:
            out = func(*args, **kwargs)
            known = _Known(None, _flops(func, args, kwargs, out), _traffic(func, args, kwargs, out))
        elif key in self._known:
            known = self._known[key]
            out = _filled(known.out)
        else:
            out = func(*args, **kwargs)
            shapes = tree_map_only(Tensor, _shape, out)
            known = _Known(shapes, _flops(func, args, kwargs, out), _traffic(func, args, kwargs, out))
            self._known[key] = known
        self.flops += known.flops
        self.traffic += known.traffic
        return out


def _shape(x: Tensor) -> _Shape:
    return _Shape(tuple(x.shape), x.stride(), x.dtype)


def _filled(out: Any) -> Any:
    """The result with a new tensor in place of each `_Shape`."""
    if isinstance(out, _Shape):
        return torch.empty_strided(out.size, out.stride, dtype=out.dtype, device="meta")
    return type(out)(map(_filled, out)) if isinstance(out, tuple | list) else out


def _key(func: Any, args: tuple, kwargs: dict) -> Hashable | None:
    """Key that calls with equal results share; None for a call that must run each time or has tensors with storage."""
    if func.is_view or func._schema.is_mutable:
        return None
    parts: list[Hashable] = [func]
    try:
        meta = all([_add(parts, value) for value in (*args, *kwargs.items())])
        hash(key := tuple(parts))
    except TypeError:
        return None
    return key if meta and any(isinstance(part, _Shape) for part in parts) else None


def _add(parts: list[Hashable], value: Any) -> bool:
    """Append the parts of the key for a value; False for a tensor with storage."""
    if isinstance(value, Tensor):
        parts.append(_shape(value))
        return value.is_meta and type(value) in (Tensor, torch.nn.Parameter)
    if isinstance(value, tuple | list):
        parts.append(len(value))
        return all([_add(parts, item) for item in value])
    # 1, 1.0 and True compare equal but give results of different types.
    parts.append((type(value), value))
    return True


def _traffic(func: Any, args: tuple, kwargs: dict, out: Any) -> int:
    if func.is_view or func.overloadpacket in _STILL:
        return 0
    # A tensor that is passed as `out` is the result itself, and its old values are not read.
    written = {argument.name for argument in func._schema.arguments if argument.is_out}
    read = (args, [value for name, value in kwargs.items() if name not in written])
    return sum(leaf.nbytes for leaf in tree_leaves((read, out)) if isinstance(leaf, Tensor))


def _flops(func: Any, args: tuple, kwargs: dict, out: Any) -> int:
    packet = func.overloadpacket
    if packet is torch.ops.aten.convolution_backward:
        return _convolution_backward(*args, **kwargs)
    formula: Callable | None = flop_registry.get(packet)
    return formula(*args, **kwargs, out_val=out) if formula else 0


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias,
    _stride,
    _padding,
    _dilation,
    transposed: bool,
    _out,
    _groups,
    output_mask,
) -> int:
    """Operations of the backward pass: those of the forward convolution for each gradient in `output_mask`.

    `output_mask` selects the gradients of input and weight. torch's own formula ignores the groups and so overestimates
    the backward pass of grouped convolutions.
    """
    # Each weight is applied at every position of the smaller side: the input of a transposed convolution, else the
    # output.
    return (
        2
        * math.prod((x if transposed else grad).shape)
        * math.prod(weight.shape[1:])
        * (output_mask[0] + output_mask[1])
    )


def count_step(cell: Cell, epoch: float | None = None) -> tuple[float, float]:
    """Operations and bytes of training on one loaded image, at the batch of a step on one rank in float32.

    The step is one of the epoch; by default, one of steady cost.
    """
    return uncompiled(lambda: _step(cell, epoch))


def count_forward(cell: Cell | Weights) -> float:
    """Operations of one forward pass of one image, in eval mode."""
    return uncompiled(lambda: _forward(cell))


def _step(cell: Cell, epoch: float | None) -> tuple[float, float]:
    # Work done once per step, such as power iteration, is divided among the images of the step on a rank.
    images = max(1, cell.per_step // cell.ranks)
    model, teacher = untrained(cell), untrained(cell.teacher) if cell.teacher else None
    with torch.device("meta"):
        objective = Objective(method(cell, teacher), model).train()
        x = torch.empty(images, *cell.data.shape)
        y = torch.zeros(images, dtype=torch.long)
        kept = cell.recipe.average
        average = WeightAverage(model, optimizer(model, cell.recipe), kept.decay) if kept else None
    bound = objective.method
    at = max(100.0, bound.steady_from_epoch) if epoch is None else epoch
    with Counter() as counter:
        for replay in range(bound.replays):
            objective(x, y, Step(at, y, replay)).backward()
            with torch.no_grad():
                bound.after(model)
            if average:
                average.update()
    return counter.flops / images, counter.traffic / images


def _forward(cell: Cell | Weights) -> float:
    model = untrained(cell).eval()
    x = torch.empty(1, *cell.data.shape, device="meta")
    with torch.no_grad(), Counter() as counter:
        model(x)
    return float(counter.flops)
