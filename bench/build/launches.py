"""Count the launches of a training step: the operations that a GPU is asked for, each of which costs its host time."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.build.networks import method, network
from bench.cell import Cell
from crt.lipschitz import lines
from crt.models.frozen_chain import KERNELS
from crt.training.cuda_graph import EAGER, Graphs, Recorder
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.precision import arithmetic

PHASES = ("attack", "forward", "backward", "update")
"""Parts of a step; `attack` holds the passes of attacks in both directions."""
_IMAGES = 2
"""Images of a counted step: launches do not depend on their number, except where lists of weights are long."""
_CHUNK, _BLOCKS, _TENSORS = 65536, 320, (110, 64, 48, 36, 30)
"""Entries a block, blocks a launch, and tensors a launch by the number of lists, in torch's kernels for lists."""
_NO_WORK = ("empty", "new_empty", "_unsafe_view", "_reshape_alias", "lift_fresh", "is_same_size", "promote_types")
"""Beginnings of the names of operations, besides views, that neither read nor write values."""
_LISTS = ("_foreach", "_fused_sgd", "_fused_adam")
_ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")
"""Operations whose result the host waits for, so that no graph can hold them."""


class _Mode(TorchDispatchMode):
    """Adds up launches by phase.

    An operation is one launch if it reads or writes values; views and allocations are none. An operation on lists of
    tensors is one launch for each chunk in which torch's CUDA kernels take the lists.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.weight, self.updating, self.asked = next(model.parameters()), False, False
        self.counts: Counter[str] = Counter()
        self.operations: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if launches := _launches(func, args, kwargs):
            self.counts[phase := self.phase()] += launches
            self.operations[phase, func.overloadpacket.__name__] += launches
            self.asked |= func.overloadpacket.__name__ in _ASKS
        return func(*args, **kwargs)

    def phase(self) -> str:
        if self.updating:
            return "update"
        if not self.weight.requires_grad:
            return "attack"
        return "forward" if torch._C._current_graph_task_id() == -1 else "backward"


def _launches(func: Any, args: tuple, kwargs: dict) -> int:
    name = func.overloadpacket.__name__
    if func.is_view or func.namespace in ("prim", "profiler") or name.startswith(_NO_WORK):
        return 0
    if not name.startswith(_LISTS):
        return 1
    values = (*args, *kwargs.values())
    lists = [value for value in values if isinstance(value, Sequence) and value and isinstance(value[0], Tensor)]
    if any(a.shape != b.shape for other in lists for a, b in zip(lists[0], other, strict=True)):
        return len(lists[0])  # torch takes them one by one
    return chunks([tensor.numel() for tensor in lists[0]], len(lists) + (not name.endswith("_")))


def chunks(sizes: Sequence[int], lists: int) -> int:
    """Launches of an operation on this many lists of tensors with these numbers of entries."""
    most = _TENSORS[min(lists, len(_TENSORS)) - 1]
    launches = tensors = blocks = 0
    for size in sizes:
        left, tensors = -(-size // _CHUNK), tensors + (size > 0)
        while left:
            taken = min(left, _BLOCKS - blocks)
            left, blocks = left - taken, blocks + taken
            if blocks == _BLOCKS or (tensors == most and not left):
                # A tensor that is not finished takes the first place of the next launch.
                launches, blocks, tensors = launches + 1, 0, int(left > 0)
    return launches + (blocks > 0)


def count_launches(cell: Cell) -> dict[str, float]:
    """Launches of a step of steady cost in each phase: the mean over the steps on one batch, whole steps at a time."""
    training, batch = _training(cell), _batch(cell)
    for group in training.optimizer.param_groups:
        group["foreach"] = not group["fused"]  # as by default on a GPU
    mode = _Mode(training.model)
    training.optimizer.register_step_pre_hook(lambda *_: setattr(mode, "updating", True))
    _steps(training, *batch)  # creates lasting state, such as momentum
    with mode, _as_on_a_gpu(mode):
        _steps(training, *batch, lambda: setattr(mode, "updating", False))
    return {phase: mode.counts[phase] / training.method.replays for phase in PHASES}


@contextmanager
def _as_on_a_gpu(mode: _Mode) -> Iterator[None]:
    """Context in which relu(conv(x) + other) in a `Chain` is one launch, and bounds take all images at once."""
    kernel, in_cache = KERNELS["cpu"], lines.IN_CACHE

    def one(x: Tensor, other: Tensor | None, conv: nn.Conv2d) -> Tensor:
        before = mode.counts.copy()
        y = kernel(x, other, conv)
        mode.counts = before
        mode.counts[mode.phase()] += 1
        return y

    KERNELS["cpu"], lines.IN_CACHE = one, sys.maxsize
    try:
        yield
    finally:
        KERNELS["cpu"], lines.IN_CACHE = kernel, in_cache


def count_recorded(cell: Cell) -> float | None:
    """Launches of a step that repeats its recording, with those that copy its inputs; None if it cannot be recorded."""
    training, batch = _training(cell, fused=True), _batch(cell)
    _steps(training, *batch)
    mode = _Mode(training.model)
    training.update = Graphs(training.update, training.optimizer, training.method.phase_boundaries, _Recorder(mode))
    for _ in range(EAGER + 1):
        _steps(training, *batch)
    with mode:
        _steps(training, *batch)
    return None if mode.asked else mode.counts.total() / training.method.replays


def count_bodies(cell: Cell) -> float:
    """Passes forward through the bodies of networks in a step; a compiled body is one graph in each direction."""
    training, batch, calls = _training(cell), _batch(cell), Counter[str]()
    twin = training.model.twin
    networks = (training.model, training.method.teacher, twin.network if twin else None)
    for each in (one for one in networks if one is not None):
        each.body.register_forward_pre_hook(lambda *_: calls.update(["forward"]))
    _steps(training, *batch)
    return calls.total() / training.method.replays


class _Recorder(Recorder):
    """Stands for the recorder of CUDA graphs: a recording is one launch, and contains no question by the host."""

    def __init__(self, mode: _Mode):
        self.mode = mode

    def eager(self, work: Callable[[], Tensor]) -> Tensor:
        return torch.zeros(())

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        with self.mode:
            loss = work()
        self.mode.counts.clear()

        def repeat() -> Tensor:
            self.mode.counts["update"] += 1
            return loss

        return repeat


def _training(cell: Cell, **changes: Any) -> Training:
    """The cell's training on the CPU, without what needs a GPU or a compiler, and with these changes of the recipe."""
    student, teacher = network(cell), network(cell.teacher) if cell.teacher else None
    changes |= dict.fromkeys(("cuda_graph", "compile", "teacher_stream"), False)
    return Training(method(cell, teacher), student, cell.recipe.model_copy(update=changes), ranks=1)


def _batch(cell: Cell) -> tuple[Tensor, Tensor]:
    return torch.rand(_IMAGES, *cell.data.shape), torch.zeros(_IMAGES, dtype=torch.long)


def _steps(training: Training, x: Tensor, y: Tensor, before: Callable[[], None] = lambda: None) -> None:
    """Take the steps on one batch, of steady cost."""
    training.objective.train()
    with arithmetic(training.recipe):
        for replay in range(training.method.replays):
            before()
            training.recipe.set(training.optimizer, 0)
            training.update(x, y, Step(max(100.0, training.method.steady_from_epoch), y, replay))
