"""The only training loop, which the clock times."""

import inspect
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from crt import distributed
from crt.models.batch_counters import BatchCounters
from crt.models.classifier import Classifier
from crt.training.average import WeightAverage
from crt.training.cuda_graph import Graphs, Recorder, Update
from crt.training.method import Method, Objective, Step
from crt.training.precision import LOW, arithmetic, begin, prepare
from crt.training.recipe import Recipe


class Batches(Protocol):
    """Batches of an epoch: images (B, C, H, W) in [0, 1], labels (B,) and indices in the dataset (B,)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]: ...


def objective(method: Method, model: Classifier, ranks: int) -> nn.Module:
    """The method bound to the model; DDP wraps both, so that no method has to handle ranks."""
    method.ranks = ranks
    bound = Objective(method, model)
    if ranks == 1:
        return bound
    # Each rank keeps its own BatchNorm statistics in training; torch renamed the option in 2.13.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False}
    return DistributedDataParallel(bound, **options)


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters, with weight decay on BatchNorm and biases, as in the papers."""
    # Only the fused optimizers skip a step whose gradients overflowed, and read a step size at its address, without
    # synchronizing with the device.
    fused = recipe.fused or recipe.cuda_graph or recipe.precision == "fp16" or None
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(
            model.parameters(), lr=lr, weight_decay=decay, fused=fused, capturable=recipe.cuda_graph
        )
    steps = torch.optim.SGD(
        model.parameters(), lr, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov, fused=fused
    )
    if fused and recipe.momentum:
        # A first step that overflows in fp16 would leave uninitialized memory in them.
        for weight in model.parameters():
            steps.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return steps


class Training:
    """A method that trains a network by a recipe, with all state that its epochs change, together with all `ranks`.

    ValueError for anything in the recipe that this device or installation does not support.
    """

    def __init__(self, method: Method, model: Classifier, recipe: Recipe, ranks: int | None = None):
        device = next(model.parameters()).device
        prepare(method, model, recipe)
        method.label_smoothing = recipe.label_smoothing
        self.method, self.model, self.recipe = method, model, recipe
        self.objective = objective(method, model, ranks or distributed.world_size())
        self.optimizer = optimizer(model, recipe)
        self.average = WeightAverage(model, self.optimizer, recipe.average.decay) if recipe.average else None
        self.counters = BatchCounters(model)
        self.scaler = GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.update: Update = self._update
        if recipe.cuda_graph:
            self.update = Graphs(self._update, self.optimizer, method.phase_boundaries, Recorder(device))

    @property
    def weights(self) -> dict[str, Tensor]:
        """State dict of the network that is kept and evaluated: the average, if the recipe has one."""
        return self.average.weights if self.average else self.model.state_dict()

    def epoch(self, batches: Batches, epoch: int) -> Tensor:
        """Train on every batch; the mean loss, left on the device so that nothing here waits for it."""
        losses = []
        self.objective.train()
        with arithmetic(self.recipe):
            for x, y, step in _steps(batches, self.method, epoch):
                if step.replay == 0:
                    begin(self.recipe)
                self.recipe.set(self.optimizer, step.epoch)
                losses.append(self.update(x, y, step))
            return torch.stack(losses).mean()

    def _update(self, x: Tensor, y: Tensor, step: Step) -> Tensor:
        low = LOW.get(self.recipe.precision)
        self.optimizer.zero_grad(set_to_none=True)
        with self.counters.together(), torch.autocast(x.device.type, low, enabled=low is not None):
            loss = self.objective(x, y, step)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.method.after(self.model)
        if self.average:
            self.average.update()
        return loss.detach()


def _steps(batches: Batches, method: Method, epoch: int) -> Iterator[tuple[Tensor, Tensor, Step]]:
    """Yield the input of each optimizer step: the parts of every batch, as often as the method replays them."""
    for i, (x, y, index) in enumerate(batches):
        size = len(x) // method.chunks
        for start in range(0, size * method.chunks, size or 1):
            part = slice(start, start + size)
            for replay in range(method.replays):
                yield x[part], y[part], Step(epoch + (i + replay / method.replays) / len(batches), index[part], replay)
