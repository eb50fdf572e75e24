"""The only training loop: the code that the clock is put on."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crt import dist
from crt.classifier import Classifier
from crt.method import Method, Objective, Step
from crt.recipe import Recipe


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
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def train_epoch(
    objective: nn.Module,
    method: Method,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    recipe: Recipe,
    epoch: int,
) -> Tensor:
    """Train on every batch; the mean loss, left on the device so that nothing in here waits for it."""
    losses = []
    objective.train()
    for i, (x, y, index) in enumerate(batches):
        now = epoch + i / len(batches)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(now)
        size = len(x) // method.chunks
        for start in range(0, size * method.chunks, size or 1):
            part = slice(start, start + size)
            for _ in range(method.replays):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    loss = objective(x[part], y[part], Step(now, index[part]))
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
    return torch.stack(losses).mean()
