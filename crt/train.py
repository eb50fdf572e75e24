"""The only training loop: the code that the clock is put on."""

import inspect
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from crt import dist
from crt.classifier import Classifier
from crt.method import Method, Objective, Step
from crt.recipe import Recipe
from crt.switches import arithmetic, begin

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What networks compute in under autocast; weights, losses and updates stay float32."""


def objective(method: Method, model: Classifier) -> nn.Module:
    """The method bound to the model; DDP goes round both, so that no method has to know of ranks."""
    bound = Objective(method, model)
    if dist.world_size() == 1:
        return bound
    # Each rank keeps its own BatchNorm statistics while it trains; torch renamed the option in 2.13.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(bound, **{buffers: False})


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over every parameter, weight decay on BN and biases included (the papers' way)."""
    # Only the fused ones skip a step whose gradients overflowed without asking the device first.
    common = {
        "lr": recipe.lr,
        "weight_decay": recipe.weight_decay,
        "fused": recipe.fused or recipe.precision == "fp16" or None,
    }
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **common)
    steps = torch.optim.SGD(model.parameters(), momentum=recipe.momentum, **common)
    if common["fused"] and recipe.momentum:
        # A first step that overflows in fp16 would leave in them what the memory held.
        for weight in model.parameters():
            steps.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return steps


def grad_scaler(device: torch.device, recipe: Recipe) -> GradScaler:
    """The loss's scale, which fp16 needs and other precisions do without."""
    return GradScaler(device.type, enabled=recipe.precision == "fp16")


def train_epoch(
    objective: nn.Module,
    method: Method,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    recipe: Recipe,
    epoch: int,
    scaler: GradScaler | None = None,
) -> Tensor:
    """Train on every batch; the mean loss, left on the device so that nothing in here waits for it."""
    losses = []
    scaler = scaler or GradScaler(enabled=False)
    model = getattr(objective, "module", objective).model
    objective.train()
    with arithmetic(recipe):
        for x, y, step in _steps(batches, method, epoch):
            if step.replay == 0:
                begin(recipe)
            recipe.set(optimizer, step.epoch)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(x.device.type, LOW.get(recipe.precision), enabled=recipe.precision in LOW):
                loss = objective(x, y, step)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            with torch.no_grad():
                method.after(model)
            losses.append(loss.detach())
        return torch.stack(losses).mean()


def _steps(
    batches: Iterable[tuple[Tensor, Tensor, Tensor]], method: Method, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Step]]:
    """What each optimizer step is taken on: the parts of every batch, as often as the method replays them."""
    for i, (x, y, index) in enumerate(batches):
        size = len(x) // method.chunks
        for start in range(0, size * method.chunks, size or 1):
            part = slice(start, start + size)
            for replay in range(method.replays):
                yield x[part], y[part], Step(epoch + (i + replay / method.replays) / len(batches), index[part], replay)
